"""Work beside the line that must not slow it: its scheduling."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def in_background() -> Iterator[None]:
    """Let a thread, and those that it starts in here, give way when others wake up.

    By SCHED_BATCH, not by niceness. A niced thread that holds Python's lock, or one of a library, while the cores
    are busy elsewhere keeps every thread of the line waiting for it. And niceness can't be undone without
    privileges: the inference threads of a new engine are started here, and must be as good as others in the end.
    """
    usual = os.sched_getscheduler(os.getpid())
    before = {task.name for task in Path("/proc/self/task").iterdir()} - {str(threading.get_native_id())}
    with suppress(OSError):  # where a sandbox forbids it
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        for task in Path("/proc/self/task").iterdir():
            if task.name in before:
                continue  # somebody else's, who may be at work beside the line too
            with suppress(OSError):  # a thread that has ended
                if usual != os.SCHED_BATCH == os.sched_getscheduler(int(task.name)):
                    os.sched_setscheduler(int(task.name), usual, os.sched_param(0))
