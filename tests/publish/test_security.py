"""Who gets in and who does not, over real sockets; what a bad handshake costs and leaves behind."""

import json
import os
import resource
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import zmq

from inspectd.publish import handshakes, sockets
from inspectd.publish.ipc import OwnPath, open_to_group
from inspectd.publish.security import Security, client_of, name_of, read_keyring
from inspectd.runtime.errors import ConfigError, UnavailableError
from inspectd.settings.publish import Publish
from inspectd.wire.keys import Keys, write_pair
from tests.makers import frame
from tests.ports import free_endpoint
from tests.publish.lines import Line

GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: line1\r\n\r\n",
    "ones": b"\xff" * 200,
    "zeros": bytes(200),
    "plain": b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48) + b"\x04\x19\x05READY" + bytes(19),
    "no hello": b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE" + bytes(47) + b"\x04\x06\x05HELLO",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
}


class Place:
    """A folder with the keys of a daemon and of those around it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clients = folder, folder / "clients"
        for name in ("server", "scada", "hmi", "stranger"):
            write_pair(folder, name)
        for domain, name in (("read", "scada"), ("control", "hmi")):
            (self.clients / domain).mkdir(parents=True)
            self.list(name, domain)

    def list(self, name: str, domain: str) -> None:
        (self.clients / domain / f"{name}.key").write_bytes((self.folder / f"{name}.key").read_bytes())

    @property
    def settings(self) -> dict[str, str]:
        return {"server_key": f"{self.folder}/server.key_secret", "client_keys": str(self.clients)}

    def keys(self, name: str, server: str = "server") -> Keys:
        return Keys(self.folder / f"{server}.key", self.folder / f"{name}.key_secret")


class Gate:
    """A ROUTER for control and an XPUB for reading, served by a loop such as the publisher's."""

    def __init__(self, place: Place) -> None:
        self.context = zmq.Context()
        config = Publish(**place.settings)
        self.security = Security(self.context, config, read_keyring(config))
        self.heard: list[tuple[bytes, str]] = []
        """What came through to control, and who said it."""
        self.control, self.results = self.context.socket(zmq.ROUTER), self.context.socket(zmq.XPUB)
        self.endpoints: dict[str, str] = {}
        for name, bound in (("control", self.control), ("read", self.results)):
            bound.setsockopt(zmq.LINGER, 0)
            bound.setsockopt(zmq.HANDSHAKE_IVL, sockets.HANDSHAKE_MS)
            self.endpoints[name] = free_endpoint()
            self.security.protect(bound, self.endpoints[name], name)
            bound.bind(self.endpoints[name])
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        poller = zmq.Poller()
        for waited in (self.control, self.results, *self.security.sockets()):
            poller.register(waited, zmq.POLLIN)
        while not self._end.is_set():
            ready = dict(poller.poll(20))
            while self.security.serve():
                pass
            if self.control in ready:
                envelope, body = self.control.recv_multipart(copy=False)
                self.heard.append((body.bytes, client_of(body)))
                self.control.send_multipart([envelope.bytes, b"done"])
            if self.results in ready:
                self.results.recv()
            self.results.send(b"result")

    @property
    def failures(self) -> int:
        return sum(self.security.counts.values())

    def close(self) -> None:
        self._end.set()
        self._thread.join(10)
        self.security.close()
        self.control.close()
        self.results.close()
        self.context.term()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def gate(place: Place) -> Iterator[Gate]:
    made = Gate(place)
    yield made
    made.close()


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def until(holds: Callable[[], object], seconds: float = 10) -> None:
    end_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def reads(endpoint: str, keys: Keys | None, seconds: float = 5) -> bool:
    """Whether whoever has these keys gets results."""
    with zmq.Context() as context, context.socket(zmq.SUB) as reader:
        reader.setsockopt(zmq.LINGER, 0)
        reader.setsockopt(zmq.SUBSCRIBE, b"")
        if keys is not None:
            keys.use(reader)
        reader.connect(endpoint)
        return bool(reader.poll(seconds * 1000))


def controls(endpoint: str, keys: Keys | None, seconds: float = 5) -> bool:
    """Whether whoever has these keys gets an answer."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as asking:
        asking.setsockopt(zmq.LINGER, 0)
        if keys is not None:
            keys.use(asking)
        asking.connect(endpoint)
        asking.send(b"do it")
        return bool(asking.poll(seconds * 1000))


def answer(asking: "zmq.Socket[bytes]") -> bytes:
    """To a question where the line stands."""
    asking.send(b'{"verb": "snapshot", "id": 7}')
    assert asking.poll(5000)
    return asking.recv()


def test_who_is_listed_for_reading_reads_and_does_not_control(place: Place, gate: Gate, logs: list[Any]) -> None:
    assert reads(gate.endpoints["read"], place.keys("scada"))
    assert not controls(gate.endpoints["control"], place.keys("scada"), 0.5)
    assert gate.heard == []
    assert gate.security.counts["handshake_auth"] >= 1
    assert [(line["peer"], line["why"]) for line in logs] == [("127.0.0.1", "scada may only read")]


def test_who_is_listed_for_control_may_do_both_and_is_known_by_name(place: Place, gate: Gate) -> None:
    assert controls(gate.endpoints["control"], place.keys("hmi"))
    assert reads(gate.endpoints["read"], place.keys("hmi"))
    assert [(body, name_of(user)) for body, user in gate.heard] == [(b"do it", "hmi")]
    assert gate.failures == 0


@pytest.mark.parametrize("who", ["stranger", "plain", "wrong server"])
def test_nobody_else_gets_in(place: Place, gate: Gate, logs: list[Any], who: str) -> None:
    keys = {"stranger": place.keys("stranger"), "plain": None, "wrong server": place.keys("hmi", "stranger")}[who]
    assert not reads(gate.endpoints["read"], keys, 0.3)
    assert not controls(gate.endpoints["control"], keys, 0.3)
    until(lambda: gate.failures >= 2)
    assert gate.heard == []
    assert {line["event"] for line in logs} == {"handshake failed"}
    assert {line["peer"] for line in logs} <= {"127.0.0.1", "unknown"}
    if who == "stranger":
        key = (place.folder / "stranger.key").read_text().split('"')[1]
        assert [line["why"] for line in logs] == [f"the key {key} is not listed"]
        assert logs[0]["peer"] == "127.0.0.1"
    assert controls(gate.endpoints["control"], place.keys("hmi"))


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_on_the_port_is_counted_and_told_with_its_peer(
    place: Place, gate: Gate, logs: list[Any], name: str
) -> None:
    port = int(gate.endpoints["control"].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0)) as raw:
        time.sleep(0.1)
        raw.sendall(GARBAGE[name])
    until(lambda: gate.failures)
    until(lambda: logs)
    assert gate.failures == 1 and gate.heard == []
    assert [line["peer"] for line in logs] == ["127.0.0.2"]
    assert controls(gate.endpoints["control"], place.keys("hmi"))
    assert gate.failures == 1


def test_a_silent_connection_is_closed_in_time(
    place: Place, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    monkeypatch.setattr("inspectd.publish.sockets.HANDSHAKE_MS", 200)
    gate = Gate(place)
    try:
        port = int(gate.endpoints["control"].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.settimeout(5)
            while raw.recv(100):  # libzmq's greeting, then the end
                pass
        until(lambda: gate.security.counts["handshake_no_detail"] == 1)
        until(lambda: logs)
        assert logs[0]["peer"] == "127.0.0.1"
    finally:
        gate.close()


def test_good_clients_that_come_and_go_are_no_failures(place: Place, gate: Gate) -> None:
    for _ in range(20):
        assert controls(gate.endpoints["control"], place.keys("hmi"))
    threads = [
        threading.Thread(target=controls, args=(gate.endpoints["control"], place.keys("hmi"))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(gate.heard) == 40 and gate.failures == 0


def test_where_no_handler_answers_nobody_gets_in(place: Place) -> None:
    """libzmq's own default would be to let every key in."""
    with zmq.Context() as context:
        config = Publish(**place.settings)
        security = Security(context, config, read_keyring(config))
        endpoint = free_endpoint()
        with context.socket(zmq.ROUTER) as bound:
            security.protect(bound, endpoint, "control")
            security._zap.close()
            bound.bind(endpoint)
            assert not controls(endpoint, place.keys("hmi"), 0.5)
            assert not bound.poll(0)
            security.close()


class TestReload:
    def test_a_key_comes_and_goes_while_the_loop_runs(self, place: Place, gate: Gate) -> None:
        endpoint = gate.endpoints["control"]
        place.list("stranger", "control")
        assert not controls(endpoint, place.keys("stranger"), 0.3)
        gate.security.reload()
        assert controls(endpoint, place.keys("stranger"))
        stranger = gate.heard[-1][1]
        assert name_of(stranger) == "stranger" and gate.security.allows(stranger, "control")
        (place.clients / "control/stranger.key").unlink()
        gate.security.reload()
        assert not controls(endpoint, place.keys("stranger"), 0.3)
        assert not gate.security.allows(stranger, "control") and not gate.security.allows(stranger, "read")

    def test_a_key_that_took_the_name_of_another_does_not_stand_for_it(self, place: Place, gate: Gate) -> None:
        """A stolen hmi.key is replaced under its name; the thief is connected."""
        endpoint = gate.endpoints["control"]
        assert controls(endpoint, place.keys("hmi"))
        stolen = gate.heard[-1][1]
        (place.clients / "control/hmi.key").write_bytes((place.folder / "stranger.key").read_bytes())
        gate.security.reload()
        assert not gate.security.allows(stolen, "control") and not gate.security.allows(stolen, "read")
        assert controls(endpoint, place.keys("stranger"))
        new = gate.heard[-1][1]
        assert name_of(new) == name_of(stolen) == "hmi" and gate.security.allows(new, "control")

    def test_a_key_that_was_taken_away_asks_nothing_more(self, place: Place) -> None:
        """Over the connection that stands; the control key may read as well."""
        query = free_endpoint()
        line = Line(place.folder, endpoint=free_endpoint(), query=query, control=free_endpoint(), **place.settings)
        try:
            with zmq.Context() as context, context.socket(zmq.DEALER) as old, context.socket(zmq.DEALER) as good:
                for asking, name in ((old, "scada"), (good, "hmi")):
                    asking.setsockopt(zmq.LINGER, 0)
                    place.keys(name).use(asking)
                    asking.connect(query)
                    assert json.loads(answer(asking))["id"] == 7
                (place.clients / "read/scada.key").unlink()
                line.publisher.security.reload()
                assert json.loads(answer(old)) == {"error": "this key may no longer be used to ask", "id": 0}
                assert json.loads(answer(good))["id"] == 7
        finally:
            line.stop()
        counts = line.publisher._counts()
        assert (counts["query_refused"], counts["query_answered"]) == (1, 4)

    def test_a_bad_file_leaves_the_old_keys(self, place: Place, gate: Gate) -> None:
        place.list("stranger", "control")
        (place.clients / "read/bad.key").write_text("?")
        with pytest.raises(ConfigError, match=r"read/bad.key: this is no key file"):
            gate.security.reload()
        assert controls(gate.endpoints["control"], place.keys("hmi"))
        assert not controls(gate.endpoints["control"], place.keys("stranger"), 0.3)

    def test_again_and_again_from_another_thread(self, place: Place, gate: Gate) -> None:
        end = threading.Event()

        def reload() -> None:
            while not end.is_set():
                gate.security.reload()

        thread = threading.Thread(target=reload)
        thread.start()
        try:
            assert all(controls(gate.endpoints["control"], place.keys("hmi")) for _ in range(20))
        finally:
            end.set()
            thread.join()
        assert gate.failures == 0


def bad_handshake(endpoint: str, index: int) -> None:
    """One of many, each with its own nonsense."""
    with socket.create_connection(("127.0.0.1", int(endpoint.rpartition(":")[2]))) as raw:
        raw.settimeout(5)
        try:
            raw.sendall(list(GARBAGE.values())[index % len(GARBAGE)])
            if index % 2:
                raw.recv(64)
        except OSError:
            pass  # closed on us, as it should


def rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def flood(place: Place, count: int) -> tuple[Line, list[float], float]:
    """So many bad handshakes beside a reader; how late each of its results was, s; the memory it cost, MiB."""
    endpoint = free_endpoint()
    line = Line(place.folder, endpoint=endpoint, **place.settings)
    late: list[float] = []
    try:
        with zmq.Context() as context, context.socket(zmq.SUB) as reader:
            reader.setsockopt(zmq.SUBSCRIBE, b"")
            place.keys("scada").use(reader)
            reader.connect(endpoint)
            assert reader.poll(5000)
            for index in range(200):
                bad_handshake(endpoint, index)
            before_mib = rss_mib()
            flooding = threading.Thread(target=lambda: [bad_handshake(endpoint, i) for i in range(count)])
            flooding.start()
            part = 0
            while flooding.is_alive():
                part += 1
                line.put(frame(part, slot=0, deadline_s=1))
                sent_s = time.monotonic()
                while not reader.recv_multipart()[0].startswith(b"res/"):
                    pass
                late.append(time.monotonic() - sent_s)
                time.sleep(0.005)
            flooding.join()
            until(lambda: sum(line.publisher.security.counts.values()) >= count + 200)
            return line, late, rss_mib() - before_mib
    finally:
        line.stop()


def test_five_hundred_bad_handshakes_cost_nobody_anything(place: Place, logs: list[Any]) -> None:
    line, late, grown_mib = flood(place, 500)
    assert sum(line.publisher.security.counts.values()) == 700
    assert len(late) > 10 and max(late) < 0.5
    assert grown_mib < 8
    told = [entry for entry in logs if entry["event"] == "handshake failed"]
    assert 1 <= len(told) <= 4  # by kind, from 127.0.0.1 or unknown


@pytest.mark.proof
def test_ten_thousand_bad_handshakes(place: Place, logs: list[Any]) -> None:
    line, late, grown_mib = flood(place, 10_000)
    assert sum(line.publisher.security.counts.values()) == 10_200
    assert max(late) < 0.5 and grown_mib < 8
    assert len(logs) < 20


def test_a_flood_that_nobody_reads_does_not_hold_up_the_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As before the loop turns, when the socket is bound and a model is still being loaded."""
    monkeypatch.setattr(handshakes, "MOST_EVENTS", 10)
    config = Publish(**place.settings)
    context = zmq.Context()
    security = Security(context, config, read_keyring(config))
    bound, endpoint = context.socket(zmq.ROUTER), free_endpoint()
    security.protect(bound, endpoint, "control")
    bound.bind(endpoint)
    raws = []
    for _ in range(600):  # 3 events each; libzmq's side holds 1000
        raw = socket.socket()
        raw.setblocking(False)
        raw.connect_ex(("127.0.0.1", int(endpoint.rpartition(":")[2])))
        raws.append(raw)
        if len(raws) % 50 == 0:
            time.sleep(0.05)
            for one in raws[-50:]:
                try:
                    one.send(GARBAGE["ones"])
                except OSError:
                    pass
    time.sleep(0.3)
    ended = threading.Thread(target=lambda: (security.close(), bound.close(0), context.term()), daemon=True)
    ended.start()
    ended.join(10)
    assert not ended.is_alive()
    for raw in raws:
        raw.close()


class TestFailures:
    def test_the_first_of_each_peer_in_a_minute_is_told_and_the_others_are_counted(
        self, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
    ) -> None:
        now = [10**12]
        monkeypatch.setattr(handshakes, "now_ns", lambda: now[0])
        failures = handshakes.Failures()
        for _ in range(50):
            failures.add("auth", "10.0.0.1", "why")
            failures.add("auth", "10.0.0.2", "why")
        assert [line["peer"] for line in logs] == ["10.0.0.1", "10.0.0.2"]
        now[0] += handshakes.MINUTE_NS
        failures.summarise()
        failures.summarise()
        assert (logs[2]["event"], logs[2]["count"]) == ("more handshakes failed in this minute", 98)
        failures.add("auth", "10.0.0.1", "why")
        assert len(logs) == 4 and failures.counts == {"auth": 101, "protocol": 0, "no_detail": 0}

    def test_a_thousand_peers_fill_neither_log_nor_memory(self, logs: list[Any]) -> None:
        failures = handshakes.Failures()
        for number in range(100_000):
            failures.add("protocol", f"10.0.{number % 1000}.1", "why")
        assert len(logs) == len(failures._logged) == handshakes.MOST_PEERS
        assert failures.counts["protocol"] == 100_000


class TestWithoutKeys:
    def test_nothing_is_encrypted_and_nothing_is_asked(self) -> None:
        with zmq.Context() as context, context.socket(zmq.XPUB) as bound:
            security = Security(context, Publish(), read_keyring(Publish()))
            endpoint = free_endpoint()
            security.protect(bound, endpoint, "read")
            assert bound.getsockopt(zmq.MECHANISM) == zmq.NULL and list(security.sockets()) == []
            assert not security.serve() and security.allows("anybody", "control")
            security.reload()
            security.close()

    def test_an_open_door_to_the_network_is_told(self, logs: list[Any]) -> None:
        config = Publish(results="tcp://*:5556", allow_insecure=True)
        with zmq.Context() as context, context.socket(zmq.XPUB) as bound:
            security = Security(context, config, read_keyring(config))
            security.protect(bound, "tcp://127.0.0.1:5556", "read")
            assert logs == []
            security.protect(bound, config.results, "read")
        assert logs[0]["event"].startswith("not encrypted: whoever is in the network can use this socket")

    def test_nobody_listed_is_told(self, place: Place, logs: list[Any]) -> None:
        for name in ("read/scada.key", "control/hmi.key"):
            (place.clients / name).unlink()
        read_keyring(Publish(**place.settings))
        assert logs[0]["event"] == "no client key is listed, so nobody can connect"


class TestPeers:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_whom_a_connection_belongs_to(self, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listening = socket.create_server((host, 0), family=family)
        except OSError:
            pytest.skip(f"this machine has no {host}")
        port = listening.getsockname()[1]
        with listening, socket.create_connection((host, port)), listening.accept()[0] as accepted:
            fd = accepted.fileno()
            assert handshakes.peer_of(fd, f"tcp://{host}:{port}".encode()) == host
            assert handshakes.peer_of(fd, f"tcp://{host}:{port + 1}".encode()) == ""
        assert handshakes.peer_of(fd, f"tcp://{host}:{port}".encode()) == ""

    def test_what_is_no_connection_belongs_to_nobody(self) -> None:
        left, right = socket.socketpair()
        with left, right, Path("/dev/null").open() as file:
            for fd in (left.fileno(), file.fileno(), -1):
                assert handshakes.peer_of(fd, b"tcp://127.0.0.1:5556") == ""

    def test_on_a_unix_socket_nobody_has_a_name_and_the_file_decides(self, place: Place, gate: Gate) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as bound, context.socket(zmq.DEALER) as asking:
            bound.bind(f"ipc://{place.folder}/control")
            asking.connect(f"ipc://{place.folder}/control")
            asking.send(b"do it")
            name = client_of(bound.recv_multipart(copy=False)[-1])
        assert name == "" and gate.security.allows(name, "control")


class TestUnixSockets:
    @pytest.fixture(params=[0o000, 0o022, 0o077])
    def umask(self, request: pytest.FixtureRequest) -> Iterator[int]:
        before = os.umask(request.param)
        yield request.param
        os.umask(before)

    def test_a_folder_of_ours_and_its_sockets_are_for_the_group(self, tmp_path: Path, umask: int) -> None:
        path = tmp_path / "line1/results"
        OwnPath(path, f"publish.results: ipc://{path}").close()
        with zmq.Context() as context, context.socket(zmq.XPUB) as bound:
            bound.bind(f"ipc://{path}")
            open_to_group(path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750

    def test_a_folder_with_the_setgid_bit_decides_the_group(self, tmp_path: Path) -> None:
        os.chown(tmp_path, -1, 4242 if os.geteuid() == 0 else -1)
        tmp_path.chmod(0o2750)
        with zmq.Context() as context, context.socket(zmq.ROUTER) as bound:
            bound.bind(f"ipc://{tmp_path}/control")
            open_to_group(tmp_path / "control")
            assert (tmp_path / "control").stat().st_gid == tmp_path.stat().st_gid

    def test_a_folder_that_anyone_may_write_is_told_and_used(self, tmp_path: Path, logs: list[Any]) -> None:
        OwnPath(tmp_path / "results", f"publish.results: ipc://{tmp_path}/results").close()
        assert logs == []
        tmp_path.chmod(0o1777)
        OwnPath(tmp_path / "results", f"publish.results: ipc://{tmp_path}/results").close()
        assert logs[0]["event"].startswith("any user here can put a socket of his own in the place of ours")
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777

    def test_a_path_is_ours_alone(self, tmp_path: Path) -> None:
        held = OwnPath(tmp_path / "results", "publish.query: ipc://x/results")
        with pytest.raises(UnavailableError, match=r"publish.query: ipc://.*/results is in use by another daemon"):
            OwnPath(tmp_path / "results", "publish.query: ipc://x/results")
        held.close()

    def test_they_are_never_encrypted(self, place: Place) -> None:
        line = Line(place.folder, **place.settings)
        try:
            assert reads(line.endpoint, None)
            assert line.publisher.security.counts == {
                "handshake_auth": 0,
                "handshake_protocol": 0,
                "handshake_no_detail": 0,
            }
        finally:
            line.stop()
