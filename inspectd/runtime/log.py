"""Logs that can't stop the line: written by a thread of their own, dropped when nobody reads them."""

import atexit
import os
import threading
from contextlib import suppress
from queue import Empty, Full, Queue

MOST_WAITING = 1000
GOODBYE_S = 1.0


class Stderr:
    """A file for structlog's PrintLogger; a full disk, a closed or a stalled reader is no fault of ours."""

    def __init__(self) -> None:
        # Its own descriptor: `images.py` turns the standard error aside while a decoder may complain there.
        try:
            self._fd = os.dup(2)
        except OSError:  # closed before we began
            self._fd = -1
        self._waiting: Queue[str] = Queue(MOST_WAITING)
        self._idle = threading.Event()
        self._idle.set()
        self.thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self.thread.start()
        atexit.register(self.goodbye)

    def write(self, text: str) -> None:
        """Queue text to be written; never blocks, never raises."""
        self._idle.clear()
        with suppress(Full):
            self._waiting.put_nowait(text)

    def goodbye(self) -> None:
        """Wait until all is written, but not for long."""
        self._idle.wait(GOODBYE_S)

    def flush(self) -> None:
        """Do nothing: the thread flushes."""

    def _write_all(self) -> None:
        while True:
            try:
                text = self._waiting.get(timeout=0.05)
            except Empty:
                self._idle.set()
                continue
            data = text.encode(errors="replace")
            with suppress(OSError):
                while data:
                    data = data[os.write(self._fd, data) :]
