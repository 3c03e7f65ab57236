"""Logs that can't stop the line: written by a thread of their own, dropped when nobody reads them."""

import atexit
import fcntl
import io
import os
import select
import stat
import threading
from contextlib import suppress
from queue import Empty, Full, Queue

MOST_WAITING = 1000
GOODBYE_S = 1.0


class Heedless(io.TextIOBase):
    """A text file on a descriptor, which takes all and never raises: what the reader does not take is lost."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, text: str) -> int:
        """Write text at once, as far as it goes without an error."""
        with suppress(OSError):
            os.write(self._fd, text.encode(errors="replace"))
        return len(text)

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd


class Stderr(io.TextIOBase):
    """The standard error, for logs; a full disk, a closed or a stalled reader is no fault of ours."""

    def __init__(self) -> None:
        try:
            self._fd = os.dup(2)
        except OSError:  # closed before we began
            self._fd = -1
        self._waiting: Queue[str] = Queue(MOST_WAITING)
        self._lock, self._dropped = threading.Lock(), 0
        self._idle = threading.Event()
        self._idle.set()
        self._flows = threading.Event()
        self._flows.set()
        self.thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self.thread.start()
        atexit.register(self.goodbye)

    def write(self, text: str) -> int:
        """Queue text to be written; never blocks, never raises. How many lines found no room is said before the
        next one that does.
        """
        self._idle.clear()
        with self._lock:
            try:
                self._waiting.put_nowait(self._gap() + text)
                self._dropped = 0
            except Full:
                self._dropped += text.count("\n")
        return len(text)

    def _gap(self) -> str:
        return f"{self._dropped} lines of the log were dropped: nobody read it\n" if self._dropped else ""

    def goodbye(self) -> None:
        """Wait until all is written, but not for long."""
        self._idle.wait(GOODBYE_S)

    def fileno(self) -> int:
        """A descriptor of the standard error as it was at the start; -1 if it was closed."""
        return self._fd

    def _write_all(self) -> None:
        while True:
            try:
                text = self._waiting.get(timeout=0.05)
            except Empty:
                if self._dropped:
                    self.write("")
                else:
                    self._idle.set()
                continue
            self._flows.wait()
            self._write_whole(text)

    def hold_back(self) -> None:
        """Keep what is written from now on, up to MOST_WAITING lines: another program draws on the terminal."""
        self._flows.clear()

    def let_go(self) -> None:
        """Write what was held back, and go on."""
        self._flows.set()

    def _write_whole(self, text: str) -> None:
        """Write text, waiting for the reader as long as it takes."""
        data = text.encode(errors="replace")
        with suppress(OSError):
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:
                    poll = select.poll()
                    poll.register(self._fd, select.POLLOUT)
                    poll.poll()


def never_wait(fd: int) -> None:
    """Let nobody in this process, and no child, wait at a descriptor of a pipe, socket or terminal that is full:
    what a library prints there then is lost. Other processes with the same pipe or terminal are not touched.
    """
    with suppress(OSError):  # closed, or not ours to open: then it stays as it was
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):  # the journal's: this service's own
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)
        elif stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            anew = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            os.dup2(anew, fd)
            os.close(anew)
