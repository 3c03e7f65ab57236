"""End to end: nothing outside may block the daemon: a reader that reads nothing, a disk that stalls."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from inspectd.runtime.errors import UserError
from inspectd.subscribe import Control, Results
from tests.lines import (
    Line,
    beats_of,
    camera_process_of,
    camera_runs_again,
    collect,
    held,
    results_of,
    state_is,
    stop,
)


def test_a_systemd_that_reads_nothing_stops_nothing(line: Line, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, Results(line.endpoint) as subscriber:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        fill(tmp_path / "notify")
        daemon = line.start(env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000"})
        collect(subscriber, state_is("ContinuousExecution"))
        kill_camera(camera_process_of(daemon))
        collect(subscriber, camera_runs_again(2))
        while b"WATCHDOG=1" not in systemd.recv(4096):  # as soon as it reads again it is told
            pass
        fill(tmp_path / "notify")
        assert stop(daemon) == 0, line.log


def test_a_camera_process_that_does_not_die_is_told_and_replaced_when_it_is_gone(line: Line) -> None:
    line.write("acquisition_frame_rate_hz = 20.0\nstall_s = 1.0")
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, lambda events: bool(results_of(events)))
        pid = camera_process_of(daemon)
        with held(line, pid):
            kill_camera(pid)
            told = f"camera top: the camera process {pid} was killed and does not end: a driver holds it"
            collect(subscriber, lambda e: bool(b := beats_of(e[-1:])) and b[0].detail == told)
        collect(subscriber, camera_runs_again(2))
        collect(subscriber, lambda events: bool(results_of(events)))
        assert stop(daemon) == 0, line.log
    assert line.log.count("does not end") == 1


def test_a_camera_process_that_does_not_die_does_not_hold_up_the_stop(line: Line) -> None:
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, lambda events: bool(results_of(events)))
        pid = camera_process_of(daemon)
        with held(line, pid):
            kill_camera(pid)
            assert stop(daemon, timeout_s=60) == 0, line.log
    assert f"the camera process {pid} was killed and does not end" in line.log


LIBRARY = """
import sys
if "inspectd.acquire.process" in sys.orig_argv:
    import ctypes, os
    from inspectd.acquire.folder import Folder
    libc, wait, calls = ctypes.CDLL(None), Folder.wait, []
    def printing(self, timeout_s):
        calls.append(1)
        for _ in range(LINES):
            libc.write(2, b"library: a packet was resent\\n", 29)
        if len(calls) == CRASH:
            libc.write(2, b"terminate called\\n", 17)
            os.abort()
        return wait(self, timeout_s)
    Folder.wait = printing
"""


def printing_library(folder: Path, lines: int, crash: int = 0) -> dict[str, str]:
    """Environment in which the camera's library prints so many lines in each call, and crashes in one call."""
    (folder / "site").mkdir()
    text = LIBRARY.replace("LINES", str(lines)).replace("CRASH", str(crash))
    (folder / "site/sitecustomize.py").write_text(text)
    return {"PYTHONPATH": str(folder / "site")}


def test_a_library_that_prints_while_nobody_reads_stops_no_camera(line: Line) -> None:
    """Nor does a log that nobody reads from the first line on."""
    reader, writer = os.pipe2(os.O_NONBLOCK)
    try:
        while os.write(writer, b"x" * 4096):
            pass
    except BlockingIOError:
        os.set_blocking(writer, True)
    command = [sys.executable, "-m", "inspectd", "run", "-c", str(line.config)]
    env = {**os.environ, **printing_library(line.folder, 200)}
    with Results(line.endpoint) as subscriber:
        daemon = line.spawn(command, stdout=writer, stderr=writer, env=env)
        collect(subscriber, lambda events: len(results_of(events)) >= 100)
        kill_camera(camera_process_of(daemon))
        collect(subscriber, camera_runs_again(2))
        collect(subscriber, lambda events: len(results_of(events)) >= 100)
        assert stop(daemon, timeout_s=60) == 0
    os.close(reader)
    os.close(writer)


def test_the_last_words_of_a_camera_process_are_in_the_log(line: Line) -> None:
    daemon = line.start(env=printing_library(line.folder, 1, crash=4))
    with Results(line.endpoint) as subscriber:
        collect(subscriber, lambda _: "killed by SIGABRT" in line.log)
    assert stop(daemon) == 0
    assert "library: a packet was resent" in line.log and "terminate called" in line.log


STALLING = """
import sys
if "run" in sys.orig_argv:
    import os, time
    def stalling(real):
        def call(*arguments):
            while os.path.exists(STALLS):
                time.sleep(0.02)
            return real(*arguments)
        return call
    os.fsync, os.fdatasync = stalling(os.fsync), stalling(os.fdatasync)
    os.posix_fallocate = stalling(os.posix_fallocate)
"""


def stalling_disk(folder: Path) -> dict[str, str]:
    """Environment in which nothing gets on the disk while there is a file `stalls` in the folder."""
    (folder / "site").mkdir()
    text = STALLING.replace("STALLS", repr(str(folder / "stalls")))
    (folder / "site/sitecustomize.py").write_text(text)
    return {"PYTHONPATH": str(folder / "site")}


def test_a_disk_that_stalls_holds_up_no_pause_no_camera_and_no_watchdog(line: Line) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        Results(line.endpoint) as subscriber,
        Control(f"ipc://{line.folder}/control", "test") as control,
        Control(f"ipc://{line.folder}/control", "other") as other,
    ):
        systemd.bind(str(line.folder / "notify"))
        notified = {"NOTIFY_SOCKET": str(line.folder / "notify"), "WATCHDOG_USEC": "600000"}
        daemon = line.start(env={**stalling_disk(line.folder), **notified})
        collect(subscriber, state_is("ContinuousExecution"))
        (line.folder / "stalls").touch()
        answers: list[dict[str, Any]] = []
        asking = threading.Thread(target=lambda: answers.append(control.request("pause", 120, why="lunch")))
        asking.start()
        collect(subscriber, state_is("Ready"))  # at once, whatever the disk does
        kill_camera(camera_process_of(daemon))
        collect(subscriber, lambda e: bool(b := beats_of(e[-1:])) and b[0].cameras["top"].process_starts == 2)
        empty(systemd)
        systemd.settimeout(20)
        assert systemd.recv(4096).startswith(b"WATCHDOG=1")
        assert other.request("status", 20)["hold"] == "paused by test: lunch"
        assert not answers and not (line.state_dir / "selection.json").exists()  # "done" is what is on the disk
        (line.folder / "stalls").unlink()
        asking.join(60)
        assert answers == [{"hold": "paused by test: lunch", "problem": ""}]
        assert "lunch" in (line.state_dir / "selection.json").read_text()
        assert "lunch" in (line.state_dir / "audit.jsonl").read_text()
        control.request("resume", 60)
        collect(subscriber, state_is("ContinuousExecution"))
        assert stop(daemon) == 0, line.log


def test_a_pause_holds_the_line_though_another_request_waits_for_the_disk(line: Line) -> None:
    with (
        Results(line.endpoint) as subscriber,
        Control(f"ipc://{line.folder}/control", "first") as first,
        Control(f"ipc://{line.folder}/control", "second") as second,
    ):
        daemon = line.start(env=stalling_disk(line.folder))
        collect(subscriber, state_is("ContinuousExecution"))
        (line.folder / "stalls").touch()
        resetting = threading.Thread(target=lambda: first.request("reset_counters", 120))
        resetting.start()
        while second.request("status", 60)["control"]["requests"] < 3:
            time.sleep(0.01)  # it waits for the disk
        pausing = threading.Thread(target=lambda: second.request("pause", 120, why="stop!"))
        pausing.start()
        assert beats_of(collect(subscriber, state_is("Ready")))[-1].detail == "paused by second: stop!"
        assert resetting.is_alive() and pausing.is_alive()
        (line.folder / "stalls").unlink()
        resetting.join(60)
        pausing.join(60)
        assert second.request("status", 60)["hold"] == "paused by second: stop!"
        (line.folder / "stalls").touch()
        stuck = threading.Thread(target=lambda: suppressed(first.request, "resume", 60))
        stuck.start()
        assert stop(daemon, timeout_s=60) == 0, line.log  # nor does the stop wait for the disk
        stuck.join(60)
        assert "Traceback" not in line.log and "the journal's disk does not answer" in line.log


def test_a_watch_that_nobody_reads_does_not_hold_up_the_end(line: Line) -> None:
    command = [sys.executable, "-m", "inspectd", "run", "-c", str(line.config), "--watch", "--count", "20"]
    reader, writer = os.pipe2(os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while os.write(writer, b"x" * 4096):
            pass
    os.set_blocking(writer, True)
    assert line.spawn(command, stdout=writer, stderr=subprocess.DEVNULL).wait(120) == 0
    os.close(reader)
    os.close(writer)


def suppressed(call: Callable[..., object], *arguments: Any) -> None:
    """Call it; the daemon that is asked may end before it has answered."""
    with suppress(UserError):
        call(*arguments)


def empty(sock: socket.socket) -> None:
    """Read all that waits in a socket."""
    with suppress(BlockingIOError):
        while sock.recv(4096, socket.MSG_DONTWAIT):
            pass


def fill(path: Path) -> None:
    """Send to a socket until it takes no more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            while True:
                sock.sendto(b"not read", socket.MSG_DONTWAIT, str(path))
        except BlockingIOError:
            return


def kill_camera(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
