"""The camera processes, where the machine has no more of what they need."""

import errno
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from inspectd.acquire.supervisor import CameraProcess, end_all
from inspectd.subscribe import Results
from tests.acquire.test_source import Line as Camera
from tests.lines import Line, beats_of, camera_process_of, camera_runs_again, collect, state_is, stop


def test_without_descriptors_a_camera_is_down_until_there_are_some(line: Line) -> None:
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (16, limits[1]))  # it has more open than that
        pid = camera_process_of(daemon)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        told = "the camera process can't be started: Too many open files"
        last = collect(subscriber, lambda e: bool(b := beats_of(e[-1:])) and b[0].cameras["top"].detail == told)
        assert beats_of(last)[-1].state in ("Preoperational", "Error")  # Error: sockets take nobody more either
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
        collect(subscriber, camera_runs_again(2))
        assert stop(daemon) == 0, line.log
    assert line.log.count("can't be started") == 1 and "Traceback" not in line.log


def test_a_process_that_cant_be_watched_is_not_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    process = CameraProcess(Camera().source)
    tried: list[int] = []

    def refuse(pid: int) -> int:
        tried.append(pid)
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pidfd_open", refuse)
        process.supervise(lambda _: None)
    assert process.source.detail == "the camera process can't be started: Cannot allocate memory"
    assert tried and process.source.fileno() < 0
    process.hurry()
    run(process, lambda: process.source.process_starts == 1)
    assert not Path(f"/proc/{tried[0]}").exists() and process.pidfd >= 0
    end_all([process], lambda _: None)
    assert process.pidfd < 0 and list(process.source.read()) == []
    assert process.source.fileno() < 0


def run(process: CameraProcess, until: Callable[[], bool]) -> None:
    """Supervise it, as the main thread does."""
    end_s = time.monotonic() + 30
    while not until():
        assert time.monotonic() < end_s
        process.supervise(lambda _: None)
        time.sleep(0.01)
