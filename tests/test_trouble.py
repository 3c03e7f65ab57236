"""End to end, when things around the daemon go wrong: hung and killed processes, dead readers, early signals."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inspectd.publish.journal.records import read_entries
from inspectd.publish.unseen import AT_ONCE
from inspectd.runtime.frame import Reason, Verdict
from inspectd.subscribe import Event, Results
from inspectd.wire.results import Result, decode_result
from tests.lines import (
    Line,
    Triggers,
    beats_of,
    camera_process_of,
    camera_runs_again,
    collect,
    each,
    inspectd,
    results_of,
    state_is,
    stop,
)


def journaled(line: Line) -> list[Result]:
    return [decode_result(entry.body) for entry in read_entries(line.state_dir / "journal")]


def counted_line(line: Line) -> Triggers:
    line.write('trigger_counter = "triggers"')
    return Triggers(line.folder / "triggers")


def fire(triggers: Triggers, count: int) -> None:
    for _ in range(count):
        triggers.fire()
        time.sleep(0.002)


def signal_camera(daemon: subprocess.Popen[str], number: int) -> int:
    """Signal the daemon's camera process; a stop is waited for."""
    pid = camera_process_of(daemon)
    assert pid is not None
    os.kill(pid, number)
    while number == signal.SIGSTOP and Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "T":
        time.sleep(0.001)
    return pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_triggers_while_the_camera_is_down_are_told_at_the_stop_too(line: Line, number: int) -> None:
    triggers = counted_line(line)
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        fire(triggers, 20)
        collect(subscriber, lambda e: bool(r := results_of(e)) and r[-1].result.frame_id == 20)
        signal_camera(daemon, number)
        fire(triggers, 20)
        time.sleep(1.2)  # a hung process is told from a busy one by its silence
        assert stop(daemon) == 0, line.log
    assert sorted(each(journaled(line))) == list(range(1, 41))


def test_a_camera_process_that_hangs_is_killed_and_nothing_is_lost(line: Line) -> None:
    triggers = counted_line(line)
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        signal_camera(daemon, signal.SIGSTOP)
        fire(triggers, 5)
        collect(subscriber, camera_runs_again(2))
        fire(triggers, 1)
        collect(subscriber, lambda e: bool(r := results_of(e)) and r[-1].result.frame_id == 6)
        assert stop(daemon) == 0, line.log
    assert "camera process hangs" in line.log
    assert [(r.frame_id, r.reason) for r in journaled(line)][:5] == [(n, Reason.CAMERA) for n in range(1, 6)]


def test_no_pass_for_a_part_that_waited_beyond_its_deadline(line: Line) -> None:
    """The camera process sleeps 0.6 s while parts go by; with 0.3 s to answer, none of them may pass."""
    recipe = line.folder / "dark/recipe.toml"
    recipe.write_text(recipe.read_text().replace("deadline_ms = 2000", "deadline_ms = 300"))
    triggers = counted_line(line)
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        pid = signal_camera(daemon, signal.SIGSTOP)
        fire(triggers, 5)
        time.sleep(0.6)
        os.kill(pid, signal.SIGCONT)
        collect(subscriber, lambda e: len(results_of(e)) == 5)
        assert stop(daemon) == 0, line.log
    assert {(r.verdict, r.reason) for r in journaled(line)} == {(Verdict.UNKNOWN, Reason.DEADLINE)}


def test_the_first_result_after_the_daemon_was_down_says_that_triggers_may_be_uncounted(line: Line) -> None:
    for run in range(2):
        daemon = line.start("--count", "5")
        assert daemon.wait(20) == 0, line.log
        flags = [r.counting_restarted for r in journaled(line)]
        assert flags.count(True) == run
    assert [r.part_id for r in journaled(line)] == list(range(1, len(flags) + 1))


def test_each_image_once_though_the_camera_process_is_killed(line: Line) -> None:
    line.write("acquisition_frame_rate_hz = 4.0\nloop = false")
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, lambda e: bool(results_of(e)))  # a quarter of a second until the next
        signal_camera(daemon, signal.SIGKILL)
        assert daemon.wait(20) == 0, line.log
    assert len(journaled(line)) == 4


def test_a_log_that_nobody_reads_does_not_stop_the_line(line: Line) -> None:
    command = [sys.executable, "-m", "inspectd", "run", "-c", str(line.config)]
    with Results(line.endpoint) as subscriber:
        daemon = line.spawn(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert daemon.stderr is not None
        daemon.stderr.close()
        collect(subscriber, state_is("ContinuousExecution"))
        signal_camera(daemon, signal.SIGKILL)  # now there is something to log
        collect(subscriber, camera_runs_again(2))
        collect(subscriber, lambda e: len([r for r in results_of(e) if r.result.image]) >= 5)
        assert stop(daemon) == 0


def handles(process: subprocess.Popen[str], number: int) -> bool:
    """Whether the process has a handler of its own for a signal (SigCgt of proc(5))."""
    (caught,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.5, 0.8])
def test_an_early_signal_ends_the_start_cleanly(line: Line, after_s: float) -> None:
    """From the moment on that `run` listens, whatever of the start is under way."""
    daemon = line.start()
    while not handles(daemon, signal.SIGHUP):
        assert daemon.poll() is None, line.log
        time.sleep(0.001)
    time.sleep(after_s)
    assert stop(daemon, signal.SIGINT) == 0, line.log
    assert "Traceback" not in line.log


def test_a_signal_before_the_program_stands_shows_no_traceback(line: Line) -> None:
    """While the command line's imports go on, of which ctypes is the first, the signal itself ends the process."""
    daemon = line.start()
    while "_ctypes" not in Path(f"/proc/{daemon.pid}/maps").read_text():
        assert daemon.poll() is None, line.log
    assert stop(daemon, signal.SIGINT) in (0, -signal.SIGINT)
    assert "Traceback" not in line.log, line.log


def test_the_watch_of_run_watch_dies_with_the_daemon(line: Line) -> None:
    command = [sys.executable, "-m", "inspectd", "run", "-c", str(line.config), "--watch"]
    daemon = line.spawn(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert daemon.stdout is not None
    assert daemon.stdout.readline()
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    assert len(children) == 2
    stop(daemon, signal.SIGKILL)
    daemon.stdout.close()
    end_s = time.monotonic() + 5
    while any(alive(pid) for pid in children):
        assert time.monotonic() < end_s
        time.sleep(0.05)


def alive(pid: str) -> bool:
    """A zombie whose adopted parent does not reap has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False


def test_a_gap_of_more_than_ten_thousand_is_told_to_the_last_and_in_few_results(line: Line) -> None:
    triggers = counted_line(line)
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        for _ in range(12_000):
            triggers.fire()
        events = collect(subscriber, lambda e: all_out(e, triggers.count))
        assert stop(daemon) == 0
    kept = journaled(line)
    assert sorted(each(kept)) == list(range(1, 12_001))
    seen = sum(r.reason not in (Reason.LOST, Reason.CAMERA) for r in kept)
    assert len(kept) <= 2 * seen + AT_ONCE + 20
    assert beats_of(events)[-1].cameras["top"].balanced


FILES = ("results", "query", "control", "images", "results.lock", "query.lock", "control.lock", "images.lock")


def test_files_deleted_under_a_running_daemon_are_made_anew(line: Line) -> None:
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        gone = [line.folder / name for name in FILES] + [line.state_dir / "lock"]
        for path in gone:
            path.unlink()
        collect(subscriber, lambda _: all(path.exists() for path in gone))
        with Results(line.endpoint) as new:
            collect(new, lambda events: bool(results_of(events)))
        collect(subscriber, lambda events: bool(results_of(events)))  # it was never disconnected
        second = inspectd("run", "-c", line.config)
        assert second.returncode == 69 and f"process {daemon.pid} holds" in second.stderr
        assert stop(daemon) == 0, line.log
    assert line.log.count("a lock was deleted: it is made anew") == 5
    assert line.log.count("a socket's file was deleted: it is bound again") == 4


def test_a_second_daemon_that_finds_the_lock_deleted_does_not_write_the_journal(line: Line) -> None:
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        daemon.send_signal(signal.SIGSTOP)  # it can't make it anew
        (line.state_dir / "lock").unlink()
        second = inspectd("run", "-c", line.config)
        assert second.returncode == 69 and "another daemon writes the journal" in second.stderr
        assert second.stderr.count("\n") == 1
        daemon.send_signal(signal.SIGCONT)
        collect(subscriber, lambda events: len(results_of(events)) >= 5)
        collect(subscriber, lambda _: "a lock was deleted" in line.log)
        assert stop(daemon) == 0, line.log
    kept = list(read_entries(line.state_dir / "journal"))
    assert [entry.seq for entry in kept] == list(range(1, len(kept) + 1))


def test_something_in_the_place_of_a_socket_is_an_error_that_says_so(line: Line) -> None:
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        (line.folder / "query").unlink()
        (line.folder / "query").mkdir()
        events = collect(subscriber, state_is("Error"))
        assert "something else lies there now" in beats_of(events)[-1].detail
        collect(subscriber, lambda events: len(results_of(events)) >= 5)
        (line.folder / "query").rmdir()
        collect(subscriber, state_is("ContinuousExecution"))
        assert stop(daemon) == 0, line.log


def all_out(events: list[Event], triggered: int) -> bool:
    """The newest heartbeat says that so many triggers came, and that each has its result."""
    view = beats[0].cameras["top"] if (beats := beats_of(events[-1:])) else None
    return view is not None and view.books.triggered == triggered and view.in_flight == 0
