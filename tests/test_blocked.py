"""End to end: nothing outside may block or end the daemon, be it a reader that reads nothing or a disk that stalls."""

import os
import signal
import socket
from pathlib import Path

from inspectd.subscribe import Results
from tests.lines import Line, camera_process_of, camera_runs_again, collect, state_is, stop


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
