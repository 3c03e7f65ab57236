"""Work beside the line."""

import os
import threading

from inspectd.runtime.background import in_background


def policy() -> int:
    return os.sched_getscheduler(threading.get_native_id())


def test_a_thread_and_what_it_starts_give_way_and_are_as_others_afterwards() -> None:
    seen: list[int] = []
    end = threading.Event()

    def stay() -> None:
        seen.append(policy())
        end.wait(10)
        seen.append(policy())

    def work() -> None:
        with in_background():
            inner.start()
            while not seen:
                end.wait(0.01)
        seen.append(policy())

    inner, outer = threading.Thread(target=stay), threading.Thread(target=work)
    outer.start()
    outer.join(10)
    end.set()
    inner.join(10)
    assert seen == [os.SCHED_BATCH, os.SCHED_OTHER, os.SCHED_OTHER]
    assert policy() == os.SCHED_OTHER
