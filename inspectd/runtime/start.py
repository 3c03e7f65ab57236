"""Work at the start that may take long or hang, and that a stop must end all the same."""

import threading
from collections.abc import Callable
from typing import TypeVar

from inspectd.runtime.errors import StoppedError
from inspectd.runtime.handoff import Handoff

T = TypeVar("T")
LOOK_S = 0.05
GRACE_S = 2.0
"""Time in seconds in which the work may end by itself once a stop is wanted: a stop like any other, then."""


def unless_stopped(work: Callable[[], T], wake: Handoff[str]) -> T:
    """Do `work` in a helper thread and give what it gives; raises what it raises.

    Raises StoppedError if something is put into `wake` and the work does not end soon. It is left alone then, and
    the process must end without waiting for it.
    """
    given: list[T] = []
    raised: list[BaseException] = []

    def do() -> None:
        try:
            given.append(work())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=do, name="start", daemon=True)
    thread.start()
    while thread.is_alive() and not len(wake):
        thread.join(LOOK_S)
    thread.join(GRACE_S)
    if raised:
        raise raised[0]
    if not given:
        raise StoppedError("asked to stop while it was starting")
    return given[0]
