"""A stop at any moment of a start, of a change of recipe or model, of a hold: clean, and nothing is lost."""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import onnx
import pytest
import zmq
from onnx import TensorProto, helper

from inspectd.publish.journal.records import CLOSED, PAGE, read_entries, read_segment, records
from inspectd.wire.results import unpack_header
from tests.acquire.sims import needs_simcam
from tests.bundles import write_bundle
from tests.engine.test_bundle import rehash
from tests.lines import Line, Triggers, stop
from tests.steer.test_steering import steered, two_recipes
from tests.test_trouble import handles

EVERY_S = 0.02
"""A part at each camera so often."""
STOP_S = 60.0
"""Much more than a stop may take: the machine may have other things to do."""
SIGNALS = (
    [signal.SIGTERM],
    [signal.SIGTERM] * 2,
    [signal.SIGINT],
    [signal.SIGTERM, signal.SIGINT],
    [signal.SIGTERM],
)
VIEWS = {
    "strict": "",
    "cut": "[camera.top]\nroi = [32, 32, 96, 80]\n",
    "bright": "[camera.cam0.features]\nGain = 2.0\n",
}


def write_line(line: Line) -> None:
    """Two triggered cameras; recipes that differ in limits, model, region or features; the model of one breaks."""
    for name in ("other", "flaky"):
        write_bundle(line.folder / name)
    for name, more in VIEWS.items():
        limits = "[limits.spot]\nsuspect = 0.3\nreject = 0.6\nmin_area_px = 16\n"
        (line.folder / f"{name}.toml").write_text(f'model = "dark"\ndeadline_ms = 2000\n{limits}{more}')
    line.write_sim('trigger = "line"\npart_id = "counter"')
    text = line.config.read_text() + (
        '\n[[camera]]\nname = "top"\nkind = "folder"\nfolder = "parts"\nwidth = 160\nheight = 128\n'
        'trigger_counter = "triggers"\nspare_slots = 32\n'
    )
    recipes = (
        '"dark/recipe.toml", "other/recipe.toml", "flaky/recipe.toml", "strict.toml", "cut.toml", "bright.toml"'
    )
    line.config.write_text(text.replace('"dark/recipe.toml"', recipes))


class Wire:
    """Everything that is published, as it comes, by a socket that asks for nothing twice."""

    def __init__(self, endpoint: str) -> None:
        self.results: list[tuple[int, int, bytes]] = []
        self.beats: list[dict] = []
        self._context, self._ending = zmq.Context(), False
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.connect(endpoint)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._ending:
            if self._socket.poll(50):
                topic, packed, body = self._socket.recv_multipart()
                header = unpack_header(packed)
                if topic.startswith(b"res/"):
                    self.results.append((header.epoch, header.seq, body))
                else:
                    self.beats.append(json.loads(body))

    def close(self) -> None:
        self._ending = True
        self._thread.join()
        self._socket.close()
        self._context.term()


class Storm:
    """Parts at both cameras and requests without end, whose answers nobody waits for, while a daemon runs."""

    def __init__(self, line: Line, seed: int) -> None:
        self._line, self._random = line, random.Random(seed)
        self._triggers = Triggers(line.folder / "triggers")
        self._ending = True
        self.may_break = False
        """Whether a model may be damaged: not before a start, which would refuse it."""
        self.answers: Counter[str] = Counter()

    @property
    def blowing(self) -> bool:
        return not self._ending

    def fire(self) -> None:
        """Until the end; the machine does not care whether a daemon looks."""
        with suppress(FileNotFoundError), self._line.rig() as rig:
            while not self._ending:
                rig.pulse()
                self._triggers.fire()
                time.sleep(EVERY_S)

    def _request(self) -> dict:
        draw = self._random
        recipes = ["dark", "strict", "other", "cut", "bright", "flaky", "dark", "strict", "nobody"]
        part_id = self._triggers.count + draw.randrange(1, 200)
        return draw.choices(
            [
                {"verb": "select_recipe", "recipe": draw.choice(recipes)},
                {"verb": "select_recipe", "recipe": draw.choice(recipes), "from_part_id": part_id},
                {"verb": "swap_model", "model": draw.choice(["dark", "other", "flaky", "nowhere"])},
                {"verb": draw.choice(["pause", "resume", "resume", "status"])},
            ],
            (8, 2, 3, 2),
        )[0]

    def _break_or_mend(self) -> None:
        """The model of one recipe is there, or damaged."""
        model = self._line.folder / "flaky/model.onnx"
        whole = (self._line.folder / "dark/model.onnx").read_bytes()
        model.write_bytes(self._random.choice([whole, whole[:-9]]))

    def ask(self) -> None:
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.setsockopt(zmq.LINGER, 0)
            dealer.connect(f"ipc://{self._line.folder}/control")
            number = 0
            while not self._ending:
                number += 1
                if self.may_break and self._random.random() < 0.1:
                    self._break_or_mend()
                with suppress(zmq.Again):
                    dealer.send_json({"id": f"{number}", "client": "me", **self._request()}, zmq.DONTWAIT)
                while dealer.poll(self._random.randrange(40)):
                    answer = json.loads(dealer.recv())
                    self.answers["done" if answer["ok"] else "refused"] += 1
        (self._line.folder / "flaky/model.onnx").write_bytes((self._line.folder / "dark/model.onnx").read_bytes())

    @contextmanager
    def blows(self) -> Iterator[None]:
        self._ending = False
        threads = [threading.Thread(target=self.fire), threading.Thread(target=self.ask)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ending = True
            for thread in threads:
                thread.join()


def is_closed(folder: Path) -> bool:
    """Whether the journal's last word is the mark of a clean end: the next boot does not read "power lost"."""
    newest = max(filter(None, map(read_segment, folder.glob("*.journal"))), key=lambda s: s.position.number)
    return [kind for kind, *_ in records(newest.path.read_bytes(), PAGE, newest.seed)][-1] == CLOSED


def stop_at_random(line: Line, draw: random.Random, wire: Wire, storm: Storm, early: bool) -> None:
    """Start a daemon, and stop it: `early` while it starts, else some time after it said that it is ready."""
    before = len(line.log) if (line.folder / "log").exists() else 0
    heard, results = len(wire.beats), len(wire.results)
    daemon = line.start()
    if early:
        while not handles(daemon, signal.SIGHUP):
            assert daemon.poll() is None, line.log[before:]
            time.sleep(0.001)
    else:
        while "ready" not in line.log[before:] or (storm.blowing and len(wire.results) < results + 5):
            assert daemon.poll() is None, line.log[before:]
            time.sleep(0.005)
        storm.may_break = True
    time.sleep(draw.uniform(0, 2.0))
    storm.may_break = False
    for number in draw.choice(SIGNALS):
        daemon.send_signal(number)
    assert daemon.wait(STOP_S) == 0, line.log[before:]
    log = line.log[before:]
    assert not any(word in log for word in ("Traceback", "stage failed", "stage hangs", "a new epoch begins")), log
    if "stopped" in log:
        assert "in_flight=0" in log
        end_s = time.monotonic() + STOP_S
        while not any(beat["state"] == "Halted" for beat in wire.beats[heard:]):
            assert time.monotonic() < end_s, wire.beats[-1:]
            time.sleep(0.01)
        time.sleep(0.05)
        last = wire.beats[-1]
        assert all(camera["balanced"] and camera["in_flight"] == 0 for camera in last["cameras"].values()), last


PROOF = [pytest.mark.proof, pytest.mark.timeout(7200)]


@needs_simcam
@pytest.mark.parametrize(("stops", "seed"), [(4, 5), pytest.param(200, 1, marks=PROOF)])
def test_a_stop_at_any_moment_of_a_change_is_clean(line: Line, stops: int, seed: int) -> None:
    write_line(line)
    draw, storm, wire = random.Random(seed), Storm(line, seed), Wire(line.endpoint)
    journal = line.state_dir / "journal"
    try:
        stop_at_random(line, draw, wire, storm, early=False)  # makes the simulated camera
        for n in range(stops - 1):
            with storm.blows():
                stop_at_random(line, draw, wire, storm, early=n % 5 == 2)
            assert is_closed(journal)
    finally:
        wire.close()
    kept = list(read_entries(journal))
    assert [entry.seq for entry in kept] == list(range(kept[0].seq, kept[0].seq + len(kept)))
    assert kept[0].seq == 1 and "a new epoch begins" not in line.log
    for camera in ("cam0", "top"):
        part_ids = [entry.part_id for entry in kept if entry.camera == camera]
        assert len(part_ids) == len(set(part_ids)) > stops
    bodies = {entry.seq: entry.body for entry in kept}
    assert len({(epoch, seq) for epoch, seq, _ in wire.results}) == len(wire.results)  # nothing published twice
    assert all(bodies[seq] == body for _, seq, body in wire.results)
    assert len({epoch for epoch, _, _ in wire.results}) == 1
    assert storm.answers["done"] >= stops / 2
    print(f"{stops} stops, {len(kept)} results, {len(wire.results)} heard, requests {dict(storm.answers)}")


# ---- what hangs ----


def fifo(line: Line, name: str) -> None:
    """A file that nobody can read to its end: as on a disk that has gone away."""
    (line.folder / name).unlink()
    os.mkfifo(line.folder / name)


def endless(folder: Path) -> None:
    """Let the model of a bundle count for some hours before it says what it sees."""
    model = onnx.load(str(folder / "model.onnx"))
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Sin", ["sum"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["n", "h", "w", "c"]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["n", "h", "w", "c"]),
        ],
    )
    rounds = helper.make_tensor("rounds", TensorProto.INT64, [], [2**31 - 2])
    model.graph.initializer.append(rounds)
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    cast = model.graph.node[0]
    cast.output[0] = "raw"
    loop = helper.make_node("Loop", ["rounds", "yes", "raw"], ["f"], body=body)
    model.graph.node.insert(1, loop)
    onnx.save(model, str(folder / "model.onnx"))
    rehash(folder)


def asked(line: Line, **request: str) -> None:
    """Send a request, and do not wait for its answer."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.connect(f"ipc://{line.folder}/control")
        dealer.send_json({"id": "1", "client": "me", **request})
        time.sleep(0.2)


def test_a_stop_does_not_wait_for_a_bundle_that_cant_be_read_to_its_end(line: Line) -> None:
    two_recipes(line)
    with steered(line) as run:
        fifo(line, "other/model.onnx")
        asked(line, verb="select_recipe", recipe="other")
        while "preparing" not in line.log:
            time.sleep(0.01)
        assert run.ask("status")["preparing"] == "recipe other"
        assert stop(run.daemon, timeout_s=STOP_S) == 0, line.log
        assert is_closed(line.state_dir / "journal") and "Traceback" not in line.log


def test_a_stop_does_not_wait_for_a_model_that_warms_up_for_ever(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        endless(line.folder / "other")
        asked(line, verb="swap_model", model="other")
        while not run.ask("status")["preparing"]:
            time.sleep(0.01)
        time.sleep(0.5)  # into the library
        triggers.fire()
        assert run.result().model.name == "dark"
        assert run.ask("status")["preparing"] == "model other"
        assert stop(run.daemon, timeout_s=STOP_S) == 0, line.log
        assert is_closed(line.state_dir / "journal") and "Traceback" not in line.log


@pytest.mark.parametrize("name", ["config.toml", "dark/recipe.toml", "dark/manifest.json", "dark/model.onnx"])
def test_a_stop_ends_a_start_that_waits_for_a_disk(line: Line, name: str) -> None:
    fifo(line, name)
    daemon = line.start()
    while not handles(daemon, signal.SIGHUP):
        assert daemon.poll() is None, line.log
        time.sleep(0.01)
    time.sleep(1)
    assert stop(daemon, timeout_s=STOP_S) == 0, line.log
    assert "asked to stop while it was starting" in line.log and "Traceback" not in line.log


def test_a_stop_ends_a_start_whose_model_warms_up_for_ever(line: Line) -> None:
    assert line.start("--count", "3").wait(STOP_S) == 0, line.log
    endless(line.folder / "dark")
    daemon, before = line.start(), len(line.log)
    while not handles(daemon, signal.SIGHUP):
        assert daemon.poll() is None, line.log
        time.sleep(0.01)
    time.sleep(3)
    assert stop(daemon, timeout_s=STOP_S) == 0, line.log
    assert "asked to stop while it was starting" in line.log[before:] and "Traceback" not in line.log
    assert is_closed(line.state_dir / "journal")


def test_a_start_that_fails_leaves_the_journal_closed(line: Line) -> None:
    """With another boot the next start would read "the power was lost", and begin a new epoch."""
    assert line.start("--count", "3").wait(STOP_S) == 0, line.log
    in_the_way = line.folder / "images"
    in_the_way.unlink(missing_ok=True)
    in_the_way.mkdir()
    daemon = line.start()
    assert daemon.wait(STOP_S) not in (0, 1), line.log
    assert is_closed(line.state_dir / "journal")


@pytest.mark.parametrize("hold", ["paused", "failed"])
def test_a_stop_of_a_line_that_is_held(line: Line, hold: str) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        (line.folder / "other/model.onnx").write_bytes(b"broken")
        run.ask("pause") if hold == "paused" else run.refused("select_recipe", recipe="other")
        for _ in range(3):
            triggers.fire()
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            run.daemon.send_signal(number)
        assert run.daemon.wait(STOP_S) == 0, line.log
        assert is_closed(line.state_dir / "journal") and "Traceback" not in line.log
