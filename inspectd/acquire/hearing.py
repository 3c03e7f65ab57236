"""How long a camera's process has said nothing, and whether that is too long."""

from inspectd.acquire.protocol import OPENING_S
from inspectd.runtime.clock import now_ns


class Hearing:
    """The silence of one camera process. Read by the main thread, told by the engine thread;
    `begins` is the main thread's, while there is no process.
    """

    def __init__(self) -> None:
        self.is_opening = True
        """Whether its process opens the camera, which may take long."""
        self._heard_ns = now_ns()

    def heard(self) -> int:
        """It has said something now; returns the moment, on the monotonic clock in ns."""
        self._heard_ns = now_ns()
        return self._heard_ns

    def begins(self) -> None:
        """A new process begins, with the opening of its camera."""
        self.is_opening = True
        self.heard()

    @property
    def silent_s(self) -> float:
        """For how long it has said nothing, in seconds."""
        return (now_ns() - self._heard_ns) / 1e9

    def hangs(self, stall_s: float) -> bool:
        """Whether it should have spoken long ago."""
        return self.silent_s > (OPENING_S if self.is_opening else stall_s)
