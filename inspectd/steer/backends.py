"""The one owner of engine backends: it knows which setups use each, and closes each exactly once."""

import threading
from collections.abc import Callable, Set
from contextlib import ExitStack

from inspectd.engine.backend import Backend
from inspectd.runtime.errors import StoppedError


class Backends:
    """Open backends by the number of the setup that uses them; setups of one model share one. For any thread.

    A backend is closed when the last setup that uses it is released, or by `close`. That frees the memory of a
    network, or a GPU, and may take a while.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used: dict[int, Backend] = {}
        self._is_ended = False

    @property
    def setups(self) -> Set[int]:
        """The numbers of the setups that use a backend."""
        with self._lock:
            return set(self._used)

    def open(self, number: int, opener: Callable[[], Backend]) -> Backend:
        """Open a backend for a setup: `opener` is called once, in the calling thread, and may take seconds.

        Raises what `opener` raises, and StoppedError after `close`; then nothing is left open.
        """
        backend = opener()
        with self._lock:
            if self._is_ended:
                _close(backend)
                raise StoppedError("the daemon ends")
            self._used[number] = backend
        return backend

    def share(self, number: int, other: int) -> Backend:
        """Let a setup use the backend of another one as well; raises StoppedError after `close`."""
        with self._lock:
            if self._is_ended:
                raise StoppedError("the daemon ends")
            self._used[number] = self._used[other]
            return self._used[number]

    def release(self, number: int) -> None:
        """A setup needs its backend no more. Does nothing for a setup that uses none, or was released before."""
        with self._lock:
            backend = self._used.pop(number, None)
            if backend is not None and backend not in self._used.values():
                _close(backend)

    def retire(self, number: int) -> None:
        """Release a setup's backend in a thread of its own: for a caller that must not wait for it."""
        threading.Thread(target=self.release, args=(number,), name="retire", daemon=True).start()

    def close(self) -> None:
        """Close all, and whatever is opened from now on; no frame needs any of them. May be called again."""
        with self._lock:
            self._is_ended = True
            backends = list(dict.fromkeys(self._used.values()))
            self._used.clear()
            with ExitStack() as each:  # one that can't be closed does not keep the others open
                for backend in backends:
                    each.callback(_close, backend)


def _close(backend: Backend) -> None:
    try:
        backend.close()
    finally:
        backend.completed.close()
