"""What a child process prints: lines of our log, bounded in number and length. Who prints never waits for us."""

import os
from collections import deque
from contextlib import suppress

import structlog

from inspectd.runtime.clock import now_ns

log = structlog.get_logger()
LINES, LINES_PER_S = 50, 5.0
"""Lines that are logged at once, and per second if there are more and more; of the others, how many."""
LONGEST = 500
"""Most bytes of a line that are logged."""
LAST = 20
"""Lines before a process ended that are logged in any case: they tell why."""
PIPE_BYTES = 65536
READS = 16
"""Most pipes full that are read at the end."""


class Chatter:
    """A pipe for the standard output and error of a child process. A full one takes no more: what is printed then
    is lost. (If the child waited instead, a library that chats would stop its camera.) Used by one thread.
    """

    def __init__(self, **whose: str) -> None:
        """`whose` goes into each line of the log. Raises OSError."""
        self._whose = whose
        self._fd, self.child_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._begun = b""  # a line that has no end yet
        self._room, self._seen_ns = float(LINES), now_ns()
        self._dropped = 0
        self._last: deque[bytes] = deque(maxlen=LAST)  # of those dropped

    def started(self) -> None:
        """The child has its end."""
        os.close(self.child_fd)
        self.child_fd = -1

    def read(self) -> bool:
        """Log what was printed since, as far as it is not too much; never waits. Returns False for nothing."""
        try:
            data = os.read(self._fd, PIPE_BYTES)
        except BlockingIOError:
            return False
        now = now_ns()
        self._room = min(LINES, self._room + (now - self._seen_ns) / 1e9 * LINES_PER_S)
        self._seen_ns = now
        *lines, rest = (self._begun + data).split(b"\n", int(self._room))
        self._room -= len(lines)
        if lines:
            self._last.clear()
        for line in lines:
            self._say(line)
        dropped = rest.count(b"\n")
        first, *lines = rest.rsplit(b"\n", LAST + 1)
        if dropped <= LAST:  # `first` is one line
            lines.insert(0, first)
        self._begun = lines.pop()[:LONGEST]
        self._last.extend(line[:LONGEST] for line in lines)
        self._dropped += dropped
        return bool(data)

    def close(self) -> None:
        """Log how it ended, when the child is dead."""
        for _ in range(READS):
            if not self.read():
                break
        self._dropped -= len(self._last)
        for line in (*self._last, self._begun):
            self._say(line)
        for fd in (self._fd, self.child_fd):
            with suppress(OSError):  # -1: the child's end, mostly
                os.close(fd)

    def _say(self, line: bytes) -> None:
        if self._dropped:
            log.warning("a child process printed too much", **self._whose, lines_not_logged=self._dropped)
            self._dropped = 0
        if text := line[:LONGEST].decode(errors="replace").strip():
            log.warning("a child process prints", **self._whose, text=text)
