"""Results that nobody loses: a subscriber that is late and stalls, a daemon that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from inspectd.publish.journal.records import read_entries
from inspectd.wire.results import unpack_header
from tests.lines import Line, stop

READER = """
import json, sys
from inspectd.subscribe import Missed, NewEpoch, Received, Results
with Results(sys.argv[1], start="oldest") as results:
    for event in results:
        if isinstance(event, Received):
            print(json.dumps([event.header.epoch, event.seq, event.result.part_id]), flush=True)
        elif isinstance(event, (Missed, NewEpoch)):
            print(json.dumps([repr(event)]), flush=True)
"""


@pytest.mark.parametrize(("count", "stall_s"), [pytest.param(20_000, 1.5, marks=pytest.mark.proof), (6_000, 0.4)])
def test_every_result_exactly_once_in_order_none_invented(line: Line, count: int, stall_s: float) -> None:
    line.write("acquisition_frame_rate_hz = 2000.0\nspare_slots = 16")
    line.config.write_text(line.config.read_text().replace("[publish]", "[publish]\nhigh_water_mark = 200"))
    seen = line.folder / "seen"
    daemon = line.start()
    until(lambda: published(line) > 0)
    time.sleep(0.5)  # the subscriber comes late
    with seen.open("w") as out:
        reader = line.spawn([sys.executable, "-X", "faulthandler", "-c", READER, line.endpoint], stdout=out)
    stalls = kills = 0
    began_s = time.monotonic()
    while (done := published(line)) < count:
        if done >= (stalls + 1) * count / 4 and stalls < 3:
            stalls += 1
            stall(reader, stall_s)
        if done >= (kills + 0.6) * count / 2 and kills < 2:
            kills += 1
            os.kill(daemon.pid, signal.SIGKILL)
            daemon.wait(20)
            daemon = line.start()
        time.sleep(0.02)
    inspecting_s = time.monotonic() - began_s
    assert stop(daemon, timeout_s=60) == 0
    assert (stalls, kills) == (3, 2)
    kept = [[e.seq, unpack_header(e.header).part_id] for e in read_entries(line.state_dir / "journal")]
    assert [seq for seq, _ in kept] == list(range(1, len(kept) + 1)) and len(kept) >= count
    daemon = line.start()  # for the subscriber to ask what it has not had yet
    until(lambda: len(told(seen)) >= len(kept) or reader.poll() is not None, 60)
    stop(daemon)
    time.sleep(1)
    assert reader.poll() is None  # nor did it end when the daemon did
    items = told(seen)
    assert all(len(item) == 3 for item in items), Counter(item[0] for item in items if len(item) == 1)
    assert [item[1:] for item in items][: len(kept)] == kept
    assert len({item[0] for item in items}) == 1  # one epoch: kill -9 loses nothing
    print(f"{len(kept)} results, at {len(kept) / inspecting_s:.0f} a second")


def test_watch_shows_each_once_over_restarts_of_the_daemon(line: Line) -> None:
    line.write("acquisition_frame_rate_hz = 100.0")
    command = [sys.executable, "-m", "inspectd", "watch", "--json", "--count", "300", "--connect", line.endpoint]
    watcher = line.spawn(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    daemon = line.start()
    for kept in (60, 150):
        until(lambda kept=kept: published(line) >= kept)
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait(20)
        daemon = line.start()
    out, err = watcher.communicate(timeout=60)
    assert watcher.returncode == 0, err
    shown = [json.loads(text) for text in out.splitlines()]
    assert [one["seq"] for one in shown] == list(range(shown[0]["seq"], shown[0]["seq"] + 300))
    assert len({one["epoch"] for one in shown}) == 1
    assert "gap" not in err and "epoch" not in err
    assert stop(daemon) == 0


def published(line: Line) -> int:
    """Results so far, by the journal's newest segments."""
    folder = line.state_dir / "journal"
    return sum(1 for _ in read_entries(folder)) if folder.exists() else 0


def stall(process: subprocess.Popen[str], seconds: float) -> None:
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)


def told(path: Path) -> list[list[int]]:
    return [json.loads(text) for text in path.read_text().splitlines(keepends=True) if text.endswith("\n")]


def until(holds, timeout_s: float = 30) -> None:
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.05)
