"""docs/protocol.md is enough: a reader written from it alone (plain_reader.py) and the kit tell the same story."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.runtime.frame import Reason, unknown
from inspectd.subscribe import Event, Missed, NewEpoch, Received, Results
from inspectd.wire.endpoints import beside
from inspectd.wire.results import Flag
from tests.makers import examples, frame, gap
from tests.publish.lines import FAIL, PASS, Line
from tests.subscribe.plain_reader import Message
from tests.wire.containers import SAMPLES, read_frames

READER = Path(__file__).parent / "plain_reader.py"
Item = tuple[Any, ...]


def as_item(event: Event) -> Item | None:
    match event:
        case Received(header, result):
            last = result.part_id + result.parts - 1
            replayed = Flag.REPLAYED in header.flags
            return header.epoch, header.seq, str(result.verdict), result.part_id, last, replayed
        case Missed(first, last):
            return "missed", first, last
        case NewEpoch(epoch):
            return "epoch", epoch
    return None


def from_json(row: str) -> Item | None:
    told = json.loads(row)
    match told["item"]:
        case "result":
            parts = told["part_id"], told["last_part_id"]
            return told["epoch"], told["seq"], told["verdict"], *parts, told["replayed"]
        case "missed":
            return "missed", told["first"], told["last"]
        case "epoch":
            return "epoch", told["epoch"]
    return None


class Both:
    """The two readers on one line; neither has any part in the other."""

    def __init__(self, endpoint: str, start: str) -> None:
        epoch, _, number = start.partition(":")
        cursor: Any = (int(epoch), int(number) - 1) if number else start
        self.kit = Results(endpoint, start=cursor)
        command = [sys.executable, str(READER), endpoint, beside(endpoint, "query"), start]
        self.plain = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._rows: Queue[str] = Queue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        self.by_kit: list[Item] = []
        self.by_plain: list[Item] = []

    def _read(self) -> None:
        assert self.plain.stdout is not None
        for row in self.plain.stdout:
            self._rows.put(row)

    def hear(self, epoch: int | str, seq: int, seconds: float = 20) -> list[Item]:
        """All that both have told when they have this result, or item."""
        until_s = time.monotonic() + seconds
        for told in (self.by_kit, self.by_plain):
            while not told or told[-1][:2] != (epoch, seq):
                assert time.monotonic() < until_s, (self.by_kit[-5:], self.by_plain[-5:])
                if told is self.by_kit:
                    item = as_item(event) if (event := self.kit.receive(0.2)) else None
                else:
                    item = from_json(self._rows.get(timeout=seconds))
                told += [item] if item else []
        return self.by_kit

    def close(self) -> None:
        self.kit.close()
        self.plain.kill()
        self.plain.wait()
        self._thread.join()
        if self.plain.stdout is not None:
            self.plain.stdout.close()


class Scene:
    """A line that is restarted, and who reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.line, self.seq = folder, Line(folder), 0
        self.readers: list[Both] = []

    def put(self, count: int, lost: tuple[int, ...] = ()) -> None:
        self.line.drop(*lost)
        for _ in range(count):
            self.seq += 1
            self.line.put(frame(self.seq, slot=0), FAIL if self.seq % 3 == 0 else PASS)

    def read(self, start: str = "oldest") -> Both:
        self.readers.append(Both(self.line.endpoint, start))
        return self.readers[-1]

    def restart(self) -> None:
        self.line.stop()
        self.line = Line(self.folder)

    def lose_power(self, boot: str) -> None:
        """No clean end, and another boot: another epoch."""
        self.line.finish()
        self.line.journal.failure = "not closed"
        self.line.stop()
        self.line = Line(self.folder, boot=boot)

    @property
    def epoch(self) -> int:
        return self.line.journal.epoch

    def close(self) -> None:
        for both in self.readers:
            both.close()
        self.line.stop()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def agreed(both: Both) -> list[Item]:
    """What both told, but for whether a result came live or out of the journal: that is a matter of moments."""
    assert [item[:5] for item in both.by_kit] == [item[:5] for item in both.by_plain]
    return [item[:5] for item in both.by_kit]


def test_lost_messages_a_restart_and_another_epoch(scene: Scene) -> None:
    both = scene.read()
    scene.put(6, lost=(2, 3, 5))
    both.hear(scene.epoch, 6)
    scene.put(4, lost=(9, 10))  # the end: shown by the heartbeat
    both.hear(scene.epoch, 10)
    scene.restart()
    scene.put(3)  # at least the first goes out before anybody is connected again
    both.hear(scene.epoch, 13)
    scene.line.lose(4)
    scene.seq += 4
    scene.put(2, lost=(19,))
    old = scene.epoch
    scene.lose_power("another boot")
    scene.put(300, lost=tuple(range(40, 200)))
    both.hear(scene.epoch, 319)
    told = agreed(both)
    assert [item[1] for item in told if item[0] == old] == [*range(1, 14), 18, 19]
    assert told[13] == ("missed", 14, 17) and told[16] == ("epoch", scene.epoch)
    assert [item[1] for item in told[17:]] == list(range(20, 320))
    assert all(item[3] == item[1] for item in told if item[0] in (old, scene.epoch))
    assert both.by_kit[1][5] and both.by_plain[1][5]  # number 2 came out of the journal


def test_ranges_live_and_out_of_the_journal(scene: Scene) -> None:
    both, part_id, wanted = scene.read(), 1, []
    scene.line.drop(3, 4, 8)
    for n, parts in enumerate((1, 1000, 1, 10**9, 7, 1, 1, 3, 1), 1):
        if parts == 1:
            scene.line.put(frame(part_id, slot=0))
        else:
            scene.line.put(gap(part_id, parts), unknown(Reason.CAMERA))
        wanted.append((n, part_id, part_id + parts - 1))
        part_id += parts
        scene.line.finish_puts()  # or what was seen goes first
    both.hear(scene.epoch, 9)
    assert [(item[1], item[3], item[4]) for item in agreed(both)] == wanted


def test_a_recycled_journal(scene: Scene) -> None:
    scene.put(6000)
    scene.line.finish()
    scene.restart()
    both = scene.read(f"{scene.epoch}:6")
    both.hear(scene.epoch, 6000)
    told = agreed(both)
    assert told[0][:2] == ("missed", 6) and told[0][2] > 500
    assert [item[1] for item in told[1:]] == list(range(told[0][2] + 1, 6001))


def test_an_epoch_that_nobody_knows(scene: Scene) -> None:
    scene.put(2)
    both = scene.read("42:17")
    both.hear(scene.epoch, 2)
    assert [item[0] for item in agreed(both)] == ["epoch", scene.epoch, scene.epoch]


def test_a_position_ahead_of_the_daemon(scene: Scene) -> None:
    scene.put(2)
    while scene.line.publisher.published < 2:
        time.sleep(0.01)
    both = scene.read(f"{scene.epoch}:17")
    both.hear("epoch", scene.epoch)  # by a heartbeat
    scene.put(1)
    both.hear(scene.epoch, 3)
    assert [item[0] for item in agreed(both)] == ["epoch", scene.epoch]


def test_an_old_journal_that_is_put_back(scene: Scene, tmp_path: Path) -> None:
    both = scene.read()
    scene.put(3)
    scene.line.finish_puts()
    backup = shutil.copytree(scene.line.folder, tmp_path / "backup")
    scene.put(7, lost=(5, 10))
    both.hear(scene.epoch, 10)
    scene.line.stop()
    shutil.rmtree(scene.line.folder)
    shutil.copytree(backup, scene.line.folder)
    scene.line = Line(scene.folder)
    both.hear("epoch", scene.epoch)  # by a heartbeat
    scene.put(10, lost=(6,))
    both.hear(scene.epoch, 13)
    told = agreed(both)
    assert told[10] == ("epoch", scene.epoch)
    assert [item[1] for item in told[:10]] == list(range(1, 11))
    assert [(item[1], item[3]) for item in told[11:]] == [(n, n + 7) for n in range(4, 14)]


def test_messages_of_an_epoch_that_has_been_read_out_of_the_journal(scene: Scene) -> None:
    """A reader that was slow: what it has not heard yet is older than what it has been told."""
    both = scene.read()
    scene.put(2)
    both.hear(old := scene.epoch, 2)
    both.plain.send_signal(signal.SIGSTOP)
    scene.put(8, lost=(3, 6))
    scene.lose_power("another boot")
    scene.put(5, lost=(12,))
    while scene.line.publisher.published < 5:
        time.sleep(0.01)
    both.plain.send_signal(signal.SIGCONT)
    both.hear(scene.epoch, 15)
    scene.put(2)
    both.hear(scene.epoch, 17)
    told = agreed(both)
    assert [item[:2] for item in told[:10]] == [(old, n) for n in range(1, 11)]
    assert told[10] == ("epoch", scene.epoch)
    assert [item[:2] for item in told[11:]] == [(scene.epoch, n) for n in range(11, 18)]
    assert not both.by_kit[-1][5] and not both.by_plain[-1][5]  # both read live again
    scene.put(20)
    both.hear(scene.epoch, 37)


FATES = st.lists(st.sampled_from(["heard", "lost", "not kept", "restart", "slow"]), max_size=25)


@examples(10)
@given(FATES, FATES)
def test_whatever_happens_both_tell_the_same(
    tmp_path_factory: pytest.TempPathFactory, before: list[str], after: list[str]
) -> None:
    scene = Scene(tmp_path_factory.mktemp("line"))
    try:
        both = scene.read()
        for fate in [*before, "power", *after]:
            if fate == "power":
                scene.lose_power("another boot")
            elif fate == "restart":
                scene.restart()
            elif fate == "slow":
                both.plain.send_signal(signal.SIGSTOP)
            elif fate == "not kept":
                scene.line.finish_puts()
                scene.line.lose(1)
                scene.seq += 1
                scene.put(1)  # or the number would come again: it is in no journal
            else:
                scene.put(1, lost=(scene.seq + 1,) if fate == "lost" else ())
        both.plain.send_signal(signal.SIGCONT)
        scene.put(1)
        both.hear(scene.epoch, scene.seq)
        assert singly(both.by_kit) == singly(both.by_plain)
        numbers = [item[1] for item in singly(both.by_kit) if item[0] != "epoch"]
        assert numbers == sorted(set(numbers)) and numbers[-1] == scene.seq
    finally:
        scene.close()


def singly(items: list[Item]) -> list[Item]:
    """What is missed number by number: one may be told of a stretch at once, and another bit by bit."""
    found: list[Item] = []
    for item in items:
        missed = item[0] == "missed"
        found += [("missed", n) for n in range(item[1], item[2] + 1)] if missed else [item[:5]]
    return found


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("1*/*.bin")), ids=lambda path: path.stem)
def test_it_reads_what_is_recorded(path: Path) -> None:
    frames, wanted = read_frames(path), json.loads((path.parent / "expected.json").read_text())[path.stem]
    for message in [wanted] if "header" in wanted else wanted["messages"]:
        place = 0 if "header" in wanted else 1 + 3 * wanted["messages"].index(message)
        read = Message(frames[place : place + 3])
        assert (read.epoch, read.seq, read.part_id) == tuple(
            message["header"][name] for name in ("epoch", "seq", "part_id")
        )
        assert read.body == message["body"] and read.verdict == message["body"].get("verdict", "")
