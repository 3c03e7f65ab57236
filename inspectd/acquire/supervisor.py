"""The camera processes, as the main thread supervises them: started, reaped, restarted, ended."""

import array
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import msgspec
import structlog

from inspectd.acquire.protocol import EXIT_TO_RESTART, Job
from inspectd.acquire.source import PROCESS_ENDED, Source
from inspectd.runtime.clock import now_ns
from inspectd.runtime.ring import Ring

log = structlog.get_logger()
HURRY_S = 1.0
"""Longest silence of a camera while the line stops, in seconds; then its process is killed."""
RESTART_S = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Waits before a camera process is started again, in seconds; from the first again once one has lived LIVED_S."""
LIVED_S = 5.0
PAUSE_S = 5.0
"""Longest time that a camera may take to end its acquisition when it is paused, in seconds."""


class CameraProcess:
    """The camera process of one source, started again whenever it dies. Main thread only."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._process: subprocess.Popen[bytes] | None = None
        self._attempt, self._started_ns, self._next_ns = 0, 0, 0
        self._why = "starting"
        self._paused_ns = 0  # since when it shall not run; 0 = it shall
        self.pidfd = -1
        """Readable when the process is dead; -1 while there is none."""

    def supervise(self, changed: Callable[[Source], None]) -> None:
        """Reap a dead process; start one when none runs and it is time."""
        if self._process is not None and self._process.poll() is not None:
            self._why = f"{PROCESS_ENDED}: {_ending(self._process.returncode)}"
            if not self.source.finished and not self._paused_ns:
                log.warning(self._why, camera=self.source.name)
            os.close(self.pidfd)
            self._process, self.pidfd = None, -1
            self._later(lived_s=(now_ns() - self._started_ns) / 1e9)
        overdue = self._paused_ns and now_ns() - self._paused_ns > PAUSE_S * 1e9
        if self._process is not None and (self.source.hangs or overdue):
            log.error("camera process hangs", camera=self.source.name)
            self._process.kill()
        # The engine thread first hears what the dead one said to the end (fileno is -1 then).
        is_due = not self._paused_ns and now_ns() >= self._next_ns
        if self._process is None and self.source.fileno() < 0 and is_due:
            self.source.health.gone(self._why)
            try:
                self._start(changed)
            except OSError as error:  # no descriptor, process or memory left; others may give some back
                self._not_started(error)

    def _start(self, changed: Callable[[Source], None]) -> None:
        """Start a camera process; raises OSError, and then there is none."""
        process, sock = spawn(self.source)
        try:
            self.pidfd = os.pidfd_open(process.pid)
        except OSError:
            sock.close()
            process.kill()
            process.wait()
            raise
        self._process, self._started_ns = process, now_ns()
        self.source.attach(sock)
        changed(self.source)

    def _not_started(self, error: OSError) -> None:
        why = f"the camera process can't be started: {error.strerror}"
        if why != self._why:
            log.error("camera trouble", camera=self.source.name, detail=why)
        self._why = why
        self.source.health.gone(why)
        self._later(lived_s=0.0)

    def _later(self, lived_s: float) -> None:
        """Set when the next process is started, after one that lived so long."""
        self._attempt = 0 if lived_s > LIVED_S else min(self._attempt + 1, len(RESTART_S) - 1)
        self._next_ns = now_ns() + int(RESTART_S[self._attempt] * 1e9)

    def hurry(self) -> None:
        """Start a camera whose count is pending again at once: the line stops."""
        self._attempt = self._next_ns = self._paused_ns = 0

    def pause(self, why: str) -> None:
        """End the acquisition until `resume`, for this reason; frames exposed before still come."""
        self._paused_ns = now_ns()
        self.source.pause(why)

    @property
    def is_down(self) -> bool:
        """Whether it is paused and all is over: no process, and no frame of it in any stage."""
        return self._paused_ns != 0 and self._process is None and self.source.is_down

    def resume(self, job: Job, ring: Ring) -> None:
        """Start it again, with another job and view of the ring. Only when it `is_down`."""
        self.source.resume(job, ring)
        self.hurry()

    def finish(self, changed: Callable[[Source], None]) -> None:
        """Do one turn of the stop: end the acquisition, or start a camera whose count is pending once more."""
        if self._process is not None and self.source.silent_s > HURRY_S:
            self._process.kill()
        if self.source.count_pending:
            self.supervise(changed)
        else:
            self.source.request_stop()

    def kill(self) -> None:
        """End it the hard way; does nothing if it is dead."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _ending(code: int) -> str:
    """How a process ended, in words for the log and the heartbeat."""
    if code == EXIT_TO_RESTART:
        return "it makes way for a new one"
    if code >= 0:
        return f"exit code {code}"
    what = " (does the GenTL producer crash?)" if -code in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS) else ""
    return f"killed by {signal.Signals(-code).name}{what}"


def spawn(source: Source) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the camera process of a source; returns it and the daemon's end of the socket.

    Called by the main thread: the process dies with the thread that started it (PR_SET_PDEATHSIG). In a
    session of its own, it does not see the terminal's Ctrl-C.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-P", "-m", "inspectd.acquire.process"]  # -P: not from the current folder
    process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=2, start_new_session=True)
    theirs.close()
    fds = array.array("i", [source.ring.fd])
    ours.sendmsg([msgspec.json.encode(source.job)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    return process, ours
