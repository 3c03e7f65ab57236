"""The camera processes, as the main thread supervises them: started, reaped, restarted, ended."""

import array
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

import msgspec
import structlog

from inspectd.acquire.chatter import Chatter
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
KILLED_S = 2.0
"""Seconds after which a killed process that is still there is held by a driver: nobody knows for how long."""


class CameraProcess:
    """The camera process of one source, started again whenever it dies. Main thread only."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._process: subprocess.Popen[bytes] | None = None
        self._attempt, self._started_ns, self._next_ns = 0, 0, 0
        self._why = "starting"
        self._paused_ns = 0  # since when it shall not run; 0 = it shall
        self._killed_ns = 0  # since when it should be dead; 0 = it may live
        self._is_given_up = False
        self._chatter: Chatter | None = None
        self.pidfd = -1
        """Readable when the process is dead; -1 while there is none."""

    def supervise(self, changed: Callable[[Source], None]) -> None:
        """Reap a dead process; start one when none runs and it is time."""
        self.look_after(changed)
        overdue = self._paused_ns and now_ns() - self._paused_ns > PAUSE_S * 1e9
        if self._process is not None and not self._killed_ns:
            if self.source.hangs or overdue:
                log.error("camera process hangs", camera=self.source.name)
                self.kill()
            elif self.source.fileno() < 0:  # it has said all, or its end of the socket is closed
                self.kill()
        # The engine thread first hears what the dead one said to the end (fileno is -1 then).
        is_due = not self._paused_ns and now_ns() >= self._next_ns
        if self._process is None and self.source.fileno() < 0 and is_due:
            self.source.health.gone(self._why)
            try:
                self._start(changed)
            except OSError as error:  # no descriptor, process or memory left; others may give some back
                self._not_started(error)

    def look_after(self, changed: Callable[[Source], None]) -> None:
        """Log what the process prints; reap it if it is dead, give it up if it is killed and does not die."""
        if self._chatter is not None:
            self._chatter.read()
        if self._process is not None and has_ended(self._process):
            self._reap(self._process)
            changed(self.source)
        elif self._killed_ns and now_ns() - self._killed_ns > KILLED_S * 1e9:
            self.give_up(changed)

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(OSError):  # what it has started holds its socket and its slots
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()  # at once: it has ended
        if self.pidfd >= 0:  # else it was never the source's
            self._why = f"{PROCESS_ENDED}: {_ending(process.returncode)}"
            if not self.source.finished and not self._paused_ns:
                log.warning(self._why, camera=self.source.name)
            os.close(self.pidfd)
            self._later(lived_s=(now_ns() - self._started_ns) / 1e9)
        if self._chatter is not None:
            self._chatter.close()
        self._process, self._chatter, self.pidfd = None, None, -1
        self._killed_ns, self._is_given_up = 0, False
        self.source.process_is_gone()

    def give_up(self, changed: Callable[[Source], None]) -> None:
        """Go on without a killed process that does not die; it keeps its slots until it does."""
        if self._process is None:
            return
        why = f"the camera process {self._process.pid} was killed and does not end: a driver holds it"
        self._is_given_up = True
        if self.source.give_up_process(why):
            log.error(why, camera=self.source.name)
            changed(self.source)

    def _start(self, changed: Callable[[Source], None]) -> None:
        """Start a camera process; raises OSError, and then there is none that the source knows of."""
        with ExitStack() as undo:
            chatter = Chatter(camera=self.source.name)
            undo.callback(chatter.close)
            self._process, sock = spawn(self.source, chatter.child_fd)
            undo.callback(sock.close)
            undo.callback(self.kill)
            self.pidfd = os.pidfd_open(self._process.pid)
            undo.pop_all()
        chatter.started()
        self._chatter, self._started_ns, self._killed_ns = chatter, now_ns(), 0
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
        """Whether it is paused and all is over: no frame of it in any stage, and no process, or one given up."""
        is_over = self._process is None or self._is_given_up
        return self._paused_ns != 0 and is_over and self.source.is_down

    def resume(self, job: Job, ring: Ring) -> None:
        """Start it again, with another job and view of the ring. Only when it `is_down`. If its process was given
        up, as soon as that is gone.
        """
        self.source.resume(job, ring)
        self.hurry()

    def finish(self, changed: Callable[[Source], None]) -> None:
        """Do one turn of the stop: end the acquisition, or start a camera whose count is pending once more."""
        if self._process is not None and not self._killed_ns and self.source.silent_s > HURRY_S:
            self.kill()
        self.look_after(changed)
        if self.source.count_pending:
            self.supervise(changed)
        else:
            self.source.request_stop()

    def kill(self) -> None:
        """Kill it, and what it has started; does nothing if it is dead. `supervise` reaps it."""
        if self._process is not None and not has_ended(self._process):
            self._killed_ns = self._killed_ns or now_ns()
            with suppress(OSError):  # its group: it leads one of its own
                os.killpg(self._process.pid, signal.SIGKILL)


def end_all(cameras: Sequence[CameraProcess], changed: Callable[[Source], None]) -> None:
    """Kill all camera processes and wait until they are dead, KILLED_S at most; then those left are given up."""
    for camera in cameras:
        camera.kill()
    until_s = time.monotonic() + KILLED_S
    while any(camera.pidfd >= 0 for camera in cameras) and time.monotonic() < until_s:
        for camera in cameras:
            camera.look_after(changed)
        time.sleep(0.01)
    for camera in cameras:
        camera.give_up(changed)


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a child process is dead; it is not reaped, so that its id is still its own."""
    return process.returncode is not None or bool(
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    )


def _ending(code: int) -> str:
    """How a process ended, in words for the log and the heartbeat."""
    if code == EXIT_TO_RESTART:
        return "it makes way for a new one"
    if code >= 0:
        return f"exit code {code}"
    what = " (does the GenTL producer crash?)" if -code in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS) else ""
    return f"killed by {signal.Signals(-code).name}{what}"


def spawn(source: Source, output: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the camera process of a source; returns it and the daemon's end of the socket. Raises OSError.

    output: descriptor of its standard output and error. Called by the main thread: the process dies with the
    thread that started it (PR_SET_PDEATHSIG). In a session of its own, it does not see the terminal's Ctrl-C.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-P", "-m", "inspectd.acquire.process"]  # -P: not from the current folder
    fds = array.array("i", [source.ring.fd])
    with theirs, ExitStack() as undo:
        undo.callback(ours.close)
        ours.sendmsg([msgspec.json.encode(source.job)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        process = subprocess.Popen(
            command, stdin=theirs.fileno(), stdout=output, stderr=output, start_new_session=True
        )
        undo.pop_all()
    return process, ours
