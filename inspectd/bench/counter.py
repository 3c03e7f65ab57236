"""A subscriber in another process, which counts what it gets until the daemon says `Halted`."""

import subprocess
import sys
from typing import NamedTuple

PROGRAM = """
import ctypes, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: not longer than the bench
from inspectd.subscribe import Beat, Missed, Received, Results

received = missing = beats = 0
with Results(sys.argv[1]) as subscriber:
    for event in subscriber:
        if isinstance(event, Received):
            received += 1
        elif isinstance(event, Missed):
            missing += event.last - event.first + 1
        elif isinstance(event, Beat):
            if not beats:
                print("hears", flush=True)
            beats += 1
            if event.heartbeat.state == "Halted":
                break
print(received, missing)
"""


class Tally(NamedTuple):
    """Numbers of what the subscriber got, and of what it knows that it did not get."""

    received: int
    missing: int


class Counter:
    """The counting subscriber's process, started by its maker."""

    def __init__(self, endpoint: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, endpoint], stdout=subprocess.PIPE, text=True
        )

    def wait_until_it_hears(self) -> None:
        """Wait until the subscriber hears the daemon; from then on it would miss what it does not get."""
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def result(self) -> Tally:
        """Give the counts after the daemon's last word; waits for the end of the process."""
        received, missing = (int(number) for number in self._process.communicate()[0].split())
        return Tally(received, missing)

    def kill(self) -> None:
        """End the process early; harmless if it has ended."""
        self._process.kill()
        self._process.wait()
