"""Record the messages of a new version of the protocol: `python -m tests.wire.record_samples FOLDER`.

Plain sockets, struct and json: what is recorded must not depend on the code that reads it later.
"""

import json
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from inspectd.acquire.simcam.faults import Effect
from inspectd.runtime.frame import Reason, unknown
from inspectd.wire.endpoints import beside
from inspectd_train.dev.protocol_files import SCHEMAS, files
from tests.lines import Line, stop
from tests.makers import frame, gap
from tests.publish import lines
from tests.wire.containers import write_frames

HEADER = struct.Struct("<2sBBHHQQQQQ")
NAMES = (
    "magic",
    "version",
    "codec",
    "flags",
    "verdict",
    "epoch",
    "seq",
    "part_id",
    "trigger_utc_ns",
    "publish_utc_ns",
)
CAMERA = 'trigger = "line"\npart_id = "counter"\nspare_slots = 8'
UNDECIDED, HASTY = ("reject = 0.6", "reject = 1.0"), ("deadline_ms = 2000", "deadline_ms = 0.05")


class Recorder:
    """Hears and asks a line; keeps the first result of each reason."""

    def __init__(self, endpoint: str) -> None:
        self.context = zmq.Context()
        self.live = self.context.socket(zmq.SUB)
        self.live.subscribe(b"")
        self.live.connect(endpoint)
        self.query = self.context.socket(zmq.DEALER)
        self.query.setsockopt(zmq.RCVTIMEO, 5000)
        self.query.connect(beside(endpoint, "query"))
        self.control = self.context.socket(zmq.DEALER)
        self.control.setsockopt(zmq.RCVTIMEO, 20_000)
        self.control.connect(beside(endpoint, "control"))
        self.found: dict[str, list[bytes]] = {}
        self.newest: dict[str, Any] = {}
        self.beat: dict[str, Any] = {}

    def until(self, holds: Callable[[], object], seconds: float = 30) -> None:
        until_s = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < until_s, (self.found.keys(), self.beat)
            if not self.live.poll(100):
                continue
            frames = self.live.recv_multipart()
            body = json.loads(frames[2])
            if frames[0].startswith(b"res/"):
                self.newest = dict(zip(NAMES, HEADER.unpack(frames[1]), strict=True))
                name = body["verdict"].lower() + (f"_{body['reason']}" if body["verdict"] == "UNKNOWN" else "")
                name += "_range" if "last_part_id" in body else ""
                self.found.setdefault(name, frames)
            else:
                self.beat = body
                if body["state"] == "ContinuousExecution" and body["last_seq"] > 20:
                    self.found.setdefault("heartbeat", frames)

    def ask(self, **question: Any) -> tuple[list[bytes], list[bytes]]:
        body = json.dumps(question).encode()
        self.query.send(body)
        return [body], self.query.recv_multipart()

    def order(self, **request: Any) -> tuple[list[bytes], list[bytes]]:
        body = json.dumps({"id": f"7f3a-{request['verb']}", "client": "shift computer", **request}).encode()
        self.control.send(body)
        return [body], self.control.recv_multipart()

    def close(self) -> None:
        self.context.destroy(linger=0)


def harmed(line: Line, heard: Recorder) -> None:
    """Every reason that a harm to the camera brings."""
    with line.rig() as rig:
        for harm, reason in (
            (lambda: None, "fail"),
            (lambda: rig.drop(1), "unknown_lost"),
            (lambda: rig.incomplete(1), "unknown_incomplete"),
            (lambda: rig.next(Effect.IDENTICAL), "unknown_image"),
            (lambda: rig.unplug(0.5), "unknown_camera"),
        ):
            harm()
            for _ in range(4):
                rig.pulse()
                time.sleep(0.02)
            time.sleep(0.5)
            rig.pulse(2)
            heard.until(lambda reason=reason: reason in heard.found)  # type: ignore[misc]
            heard.until(lambda: heard.beat.get("state") == "ContinuousExecution")


def overrun(line: Line, heard: Recorder, daemon: Any) -> None:
    with line.rig() as rig:
        daemon.send_signal(signal.SIGSTOP)
        for _ in range(40):
            rig.pulse()
            time.sleep(0.005)
        daemon.send_signal(signal.SIGCONT)
        heard.until(lambda: "unknown_overrun" in heard.found)


def run(line: Line, heard: Recorder, act: Callable[[Any], None], edit: tuple[str, str] = ("", "")) -> None:
    """The daemon from start to end, under the recipe changed so."""
    recipe = line.folder / "dark/recipe.toml"
    text = recipe.read_text()
    recipe.write_text(text.replace(*edit) if edit[0] else text)
    heard.beat = {}
    daemon = line.start()
    try:
        heard.until(lambda: heard.beat.get("state") == "ContinuousExecution")
        act(daemon)
    finally:
        stop(daemon)
        recipe.write_text(text)


def pulses(line: Line, heard: Recorder, name: str) -> None:
    with line.rig() as rig:
        for _ in range(4):
            rig.pulse()
            time.sleep(0.02)
    heard.until(lambda: name in heard.found)


def questions(heard: Recorder, ended: dict[str, Any]) -> dict[str, list[bytes]]:
    """`ended`: header of the last result of an epoch that is over."""
    heard.until(lambda: heard.newest["epoch"] != ended["epoch"])
    _, replayed = heard.ask(verb="replay", id=1, epoch=ended["epoch"], **{"from": ended["seq"] - 1})
    told = {"replayed": replayed[1:4]}
    newest = heard.newest
    for name, question in (
        ("snapshot", {"verb": "snapshot", "id": 2}),
        ("replay", {"verb": "replay", "id": 3, "epoch": newest["epoch"], "from": newest["seq"] - 1}),
        ("replay_of_ended_epoch", {"verb": "replay", "id": 4, "epoch": ended["epoch"], "from": ended["seq"]}),
        ("replay_of_unknown_epoch", {"verb": "replay", "id": 5, "epoch": 42, "from": 7}),
        ("no_query", {"verb": "nonsense", "id": 6}),
    ):
        told[f"question_{name}"], told[f"answer_{name}"] = heard.ask(**question)
    return told


def orders(heard: Recorder) -> dict[str, list[bytes]]:
    """Each verb of the control socket once; this camera has no software trigger to send."""
    told: dict[str, list[bytes]] = {}
    for name, request in (
        ("status", {"verb": "status"}),
        ("select_recipe", {"verb": "select_recipe", "recipe": "dark"}),
        ("swap_model", {"verb": "swap_model", "model": "dark"}),
        ("pause", {"verb": "pause", "why": "the belt is cleaned"}),
        ("resume", {"verb": "resume"}),
        ("trigger", {"verb": "trigger", "camera": "cam0", "part_ref": "pallet 7"}),
        ("reset_counters", {"verb": "reset_counters"}),
        ("no_verb", {"verb": "nonsense"}),
    ):
        told[f"request_{name}"], told[f"told_{name}"] = heard.order(**request)
    return told


def by_hand(folder: Path) -> dict[str, list[bytes]]:
    """What no daemon can be brought to from outside."""
    line = lines.Line(folder)
    heard = Recorder(line.endpoint)
    heard.until(lambda: heard.beat)
    line.put(frame(1, slot=0), unknown(Reason.ENGINE, "the inference failed"))
    line.put(frame(2, slot=0), unknown(Reason.NOT_READY, "paused"))
    line.put(gap(3, 1000), unknown(Reason.CAMERA))
    heard.until(lambda: {"unknown_not_ready", "unknown_camera_range"} <= heard.found.keys())
    heard.close()
    line.stop()
    return {name: frames for name, frames in heard.found.items() if name.startswith("unknown_")}


def record(folder: Path) -> dict[str, list[bytes]]:
    """All samples by name, from runs of the daemon in this folder."""
    line = Line(folder)
    line.write_sim(CAMERA)
    recipe = line.folder / "dark/recipe.toml"
    recipe.write_text(recipe.read_text() + "[image]\nrefuse_identical = true\n")
    heard = Recorder(line.endpoint)
    try:
        run(line, heard, lambda _: harmed(line, heard))
        run(line, heard, lambda daemon: overrun(line, heard, daemon))
        run(line, heard, lambda _: pulses(line, heard, "unknown_deadline"), HASTY)
        heard.until(lambda: heard.beat.get("last_seq") == heard.newest["seq"])
        ended = heard.newest
        (line.state_dir / "journal/tainted").touch()  # as a disk that failed leaves it: another epoch
        asked: dict[str, list[bytes]] = {}

        def last(_: Any) -> None:
            pulses(line, heard, "unknown_undecided")
            asked.update(questions(heard, ended))
            asked.update(orders(heard))

        run(line, heard, last, UNDECIDED)
        return heard.found | asked
    finally:
        heard.close()
        line.close()


def values(frames: list[bytes]) -> dict[str, Any]:
    """The important ones of a message."""
    if len(frames) == 3 and len(frames[1]) == HEADER.size:
        header = dict(zip(NAMES, HEADER.unpack(frames[1]), strict=True)) | {"magic": "IN"}
        return {"topic": frames[0].decode(), "header": header, "body": json.loads(frames[2])}
    parts = [frames[i : i + 3] for i in range(1, len(frames), 3)]
    return {"body": json.loads(frames[0]), "messages": [values(part) for part in parts]}


def write(folder: Path, samples: dict[str, list[bytes]]) -> None:
    folder.mkdir(parents=True)
    for name, frames in sorted(samples.items()):
        assert not any(place in part for part in frames for place in (b"/tmp", b"/home", b"/work")), name
        write_frames(folder / f"{name}.bin", frames)
    rows = [f"{json.dumps(name)}: {json.dumps(values(frames))}" for name, frames in sorted(samples.items())]
    (folder / "expected.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")
    (folder / "schemas").mkdir()
    for name in SCHEMAS:
        (folder / "schemas" / f"{name}.schema.json").write_bytes(files()[f"{name}.schema.json"])


def main() -> None:
    folder = Path(sys.argv[1])
    temporary = Path(tempfile.mkdtemp(prefix="samples-"))
    try:
        (temporary / "line").mkdir()
        write(folder, record(temporary / "line") | by_hand(temporary))
    finally:
        shutil.rmtree(temporary)


if __name__ == "__main__":
    main()
