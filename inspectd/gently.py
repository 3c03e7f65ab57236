"""Slow work beside inspection: in a thread that yields to the stages, and leaves no slow thread behind."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

NICENESS = 10


def start_gently(work: Callable[[], None]) -> threading.Thread:
    """Run `work` in a niced thread, where this process may undo that (LimitNICE= of the unit).

    Libraries create threads of their own in it, for inference later on: these get back what all others have.
    """

    def run() -> None:
        if not _may_return():
            work()
            return
        before = _threads()
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        try:
            work()
        finally:
            for thread in _threads() - before:
                with suppress(OSError):  # it has ended
                    os.setpriority(os.PRIO_PROCESS, thread, 0)

    thread = threading.Thread(target=run, name="prepare", daemon=True)
    thread.start()
    return thread


def _threads() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}


def _may_return() -> bool:
    """Whether a thread of this process may become nice and then as it was; tried out by one that ends at once."""
    allowed = False

    def tried() -> None:
        nonlocal allowed
        was = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        if was != 0:
            return  # the whole process is niced: then it stays as it is
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 1)
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 0)
            allowed = True

    thread = threading.Thread(target=tried)
    thread.start()
    thread.join()
    return allowed
