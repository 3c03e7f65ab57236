"""`inspectd ctl` against a real daemon."""

import json
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
import zmq

from inspectd.runtime.errors import UnavailableError
from inspectd.settings.publish import Publish
from inspectd.subscribe import Control, Results
from inspectd.wire.endpoints import beside
from inspectd.wire.keys import Keys, write_pair
from tests.bundles import write_bundle
from tests.lines import Line, Triggers, collect, inspectd, results_of, state_is, stop
from tests.ports import free_endpoint


def ctl(line: Line, *arguments: str) -> subprocess.CompletedProcess[str]:
    return inspectd("ctl", *arguments, "--connect", f"ipc://{line.folder}/control")


def test_every_command(line: Line) -> None:
    write_bundle(line.folder / "other")
    line.write('trigger_counter = "triggers"', 'dark/recipe.toml", "other/recipe.toml')
    triggers = Triggers(line.folder / "triggers")
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        shown = ctl(line, "status")
        assert shown.returncode == 0 and "line test: ContinuousExecution, inspecting" in shown.stdout, shown.stderr
        assert " of dark, other" in shown.stdout and "no trigger yet" in shown.stdout
        assert json.loads(ctl(line, "status", "--json").stdout)["recipes"] == ["dark", "other"]
        told = ctl(line, "select", "other", "--from-part", "2").stdout
        assert "switched between two parts: recipe other" in told and "camera top: from part 2 on" in told
        assert "model dark" in ctl(line, "swap", "dark").stdout
        assert ctl(line, "pause", "lunch").stdout.startswith("held: paused by ctl of ")
        assert "Ready, paused by" in ctl(line, "status").stdout
        assert ctl(line, "resume").stdout == "resumed: ContinuousExecution\n"
        triggers.fire()
        collect(subscriber, lambda events: bool(results_of(events)))
        assert "camera top was at 1 triggers, 1 passed, 0 failed" in ctl(line, "reset-counters").stdout
        refused = ctl(line, "trigger", "top", "A-1")
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
        assert refused.stderr.startswith("inspectd: camera top takes no software triggers")
        refused = ctl(line, "select", "third")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr == (
            "inspectd: nothing was changed: there is no recipe 'third' in the config; there is dark, other\n"
        )
        assert ", inspecting" in ctl(line, "status").stdout
        assert stop(daemon) == 0, line.log
    assert "Traceback" not in line.log


def test_without_a_daemon_it_says_so(line: Line) -> None:
    shown = ctl(line, "status", "--timeout", "0.5")
    assert shown.returncode == 69 and shown.stderr.startswith("inspectd: no daemon answers at ipc://")
    assert shown.stderr.count("\n") == 1


def test_somebody_who_never_answers(line: Line) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{line.folder}/control")
        listener.listen()
        shown = ctl(line, "pause", "--timeout", "0.5")
    assert shown.returncode == 69 and shown.stdout == "", shown.stderr


def test_what_answers_is_no_control_endpoint(line: Line) -> None:
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        shown = inspectd("ctl", "status", "--connect", f"ipc://{line.folder}/query")
        assert (shown.returncode, shown.stdout, shown.stderr.count("\n")) == (1, "", 1), shown.stderr
        assert f"what answers at ipc://{line.folder}/query is no control endpoint" in shown.stderr
        shown = inspectd("ctl", "status", "--connect", line.endpoint, "--timeout", "0.5")
        assert shown.returncode == 69 and "is this its control endpoint?" in shown.stderr
        assert stop(daemon) == 0


def test_a_text_that_is_not_utf_8(line: Line) -> None:
    shown = inspectd("ctl", "pause", "\udcff", "--connect", f"ipc://{line.folder}/control")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr == "inspectd: pause was not sent: '\\udcff' is not UTF-8\n"


def test_a_daemon_is_not_waited_for_as_long_as_its_answer(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspectd.subscribe.control.CONNECT_S", 0.5)
    with Control(f"ipc://{line.folder}/control") as control:
        began_s = time.monotonic()
        with pytest.raises(UnavailableError, match="no daemon answers"):
            control.request("swap_model", 600, model="other")
        assert time.monotonic() - began_s < 5


def test_a_daemon_that_is_there_is_waited_for(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspectd.subscribe.control.CONNECT_S", 0.5)
    endpoint = f"ipc://{line.folder}/control"
    with zmq.Context() as context, context.socket(zmq.ROUTER) as daemon, Control(endpoint) as control:
        daemon.bind(endpoint)

        def prepare() -> None:
            peer, body = daemon.recv_multipart()
            time.sleep(1.5)
            daemon.send_multipart([peer, json.dumps({"id": json.loads(body)["id"], "ok": True}).encode()])

        preparing = threading.Thread(target=prepare)
        preparing.start()
        assert control.request("swap_model", 20, model="other") == {}
        preparing.join()


@pytest.mark.parametrize(
    ("endpoint", "keys", "doubt"),
    [
        ("ipc:///nowhere/control", False, "its control endpoint?"),
        ("tcp://127.0.0.1:{}", False, "does it want keys?"),
        ("tcp://127.0.0.1:{}", True, "know this one, and is the server key its own?"),
    ],
)
def test_where_keys_may_be_why_nobody_answers_it_says_so(
    tmp_path: Path, endpoint: str, keys: bool, doubt: str
) -> None:
    write_pair(tmp_path, "hmi")
    mine = Keys(tmp_path / "hmi.key", tmp_path / "hmi.key_secret") if keys else None
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = endpoint.format(silent.getsockname()[1])
        with Control(endpoint, keys=mine) as control, pytest.raises(UnavailableError) as told:
            control.request("status", 0.3)
    assert str(told.value).endswith(doubt)


@pytest.mark.parametrize("arguments", [("trigger",), ("select",), ("nonsense",), ("status", "--timeout", "x")])
def test_a_wrong_command_line(arguments: tuple[str, ...]) -> None:
    assert inspectd("ctl", *arguments).returncode == 2


def test_an_endpoint_that_cant_be_one() -> None:
    shown = inspectd("ctl", "status", "--connect", "nonsense")
    assert shown.returncode == 1 and "an endpoint looks like" in shown.stderr


@pytest.mark.parametrize(
    ("results", "control"),
    [
        ("tcp://127.0.0.1:5556", "tcp://127.0.0.1:5558"),
        ("tcp://[::1]:7000", "tcp://[::1]:7002"),
        ("ipc:///run/line1/results", "ipc:///run/line1/control"),
        ("ipc://results", "ipc://control"),
    ],
)
def test_the_control_socket_is_beside_results(results: str, control: str) -> None:
    assert beside(results, "control") == control


def test_a_port_that_can_t_be_beside_is_told() -> None:
    with pytest.raises(ValueError, match="there is no port for control beside"):
        beside("tcp://127.0.0.1:65535", "control")


@pytest.mark.parametrize("control", ["tcp://127.0.0.1:5556", "tcp://0.0.0.0:5558", "udp://x"])
def test_a_control_endpoint_that_cant_be_one(control: str) -> None:
    with pytest.raises(ValueError, match="control"):
        Publish(control=control)


def test_a_configured_control_endpoint(line: Line) -> None:
    line.config.write_text(line.config.read_text().replace("[publish]\n", '[publish]\ncontrol = "ipc://steer"\n'))
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        shown = inspectd("ctl", "status", "--connect", f"ipc://{line.folder}/steer")
        assert shown.returncode == 0, shown.stderr
        assert stop(daemon) == 0


def test_with_keys_only_a_control_key_steers_and_its_name_is_in_the_audit_log(line: Line) -> None:
    for name in ("line1", "hmi", "reader"):
        assert inspectd("keygen", name, cwd=line.folder).returncode == 0
    for domain, name in (("control", "hmi"), ("read", "reader")):
        (line.folder / "clients" / domain).mkdir(parents=True)
        (line.folder / f"keys/{name}.key").rename(line.folder / f"clients/{domain}/{name}.key")
    endpoint = free_endpoint()
    keys = f'control = "{endpoint}"\nserver_key = "keys/line1.key_secret"\nclient_keys = "clients"\n'
    line.config.write_text(line.config.read_text().replace("[publish]\n", f"[publish]\n{keys}"))

    def steer(name: str) -> subprocess.CompletedProcess[str]:
        own = ("--server-key", "keys/line1.key", "--key", f"keys/{name}.key_secret")
        return inspectd("ctl", "pause", "--timeout", "3", "--connect", endpoint, *own, cwd=line.folder)

    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        assert steer("reader").returncode == 69
        without = inspectd("ctl", "pause", "--timeout", "1", "--connect", endpoint)
        half = inspectd("ctl", "pause", "--connect", endpoint, "--key", "x")
        assert without.returncode == 69 and half.returncode == 1 and "go together" in half.stderr
        assert steer("hmi").returncode == 0
        assert stop(daemon) == 0
    (change,) = [json.loads(row) for row in (line.state_dir / "audit.jsonl").read_text().splitlines()]
    assert change["who"] == "hmi" and "(hmi)" in change["new"]
