"""How a camera is, as heartbeat and log say it: a state that changes only when the camera does."""

import re

import structlog

from inspectd.runtime.clock import now_ns
from inspectd.settings.camera import CameraConfig, GentlCamera

log = structlog.get_logger()
AGAIN_S = 10.0
"""The same thing is logged again at the earliest after so many seconds."""
MAX_LOGGED = 64
"""Number of different things whose last mention is remembered."""
SETTLED_S = 10.0
"""A triggered camera whose frames did not come is well again when none was missed for so many seconds."""
UNUSABLE = 3
"""Unusable frames in a row after which the camera is said to send no others."""


class Health:
    """State of one camera: streaming, idle (it answers, and nothing triggers it) or dead.

    Set by the engine thread, and by the main thread while there is no process, or one that is given up (`gone`).
    """

    def __init__(self, config: CameraConfig) -> None:
        self.state, self.detail = "dead", "starting"
        self._name, self._device = config.name, ""
        self._due_always = isinstance(config, GentlCamera) and config.frames_are_due
        self._silent_ns = 0  # when frames that were due did not come, and none has come since; 0 = all is well
        self._unusable = 0  # frames in a row
        self._logged_ns: dict[str, int] = {}
        self._noticed: set[str] = set()  # a camera process has few things to say

    def streams(self, device: str) -> None:
        """The acquisition began. A camera whose frames did not come before has to show one first."""
        self._device = device
        if not self._silent_ns:
            self.state, self.detail = "streaming", device
        if self._is_new(device):
            log.info("camera streams", camera=self._name, device=device)

    def frame(self, unusable: str = "") -> None:
        """A frame came, or why what came is no picture."""
        self._silent_ns = 0
        self._unusable = self._unusable + 1 if unusable else 0
        self.state, self.detail = "streaming", self._device
        if self._unusable >= UNUSABLE:
            self.detail = f"every frame is unusable: {unusable}"
            self.warn(self.detail)

    def idle(self) -> None:
        """It answers, and nothing came."""
        if self._silent_ns and (self._due_always or now_ns() - self._silent_ns < SETTLED_S * 1e9):
            return
        if self._silent_ns:
            self._silent_ns, self.detail = 0, self._device
        self.state = "idle"

    def trouble(self, detail: str, is_silent: bool) -> None:
        """It can't be opened, was lost, or sends no frames though they are due."""
        if self.detail != detail and self._is_new(detail):
            log.warning("camera trouble", camera=self._name, detail=detail)
        self._silent_ns = now_ns() if is_silent else 0
        self.state, self.detail = "dead", detail

    def gone(self, detail: str) -> None:
        """There is no camera process."""
        self.state, self.detail = "dead", detail

    def notice(self, what: str) -> None:
        """Log something that people should know of the camera, once for all its processes."""
        if what not in self._noticed:
            self._noticed.add(what)
            self.warn(what)

    def warn(self, what: str, **values: object) -> None:
        """Log a warning, but not the same one again and again."""
        if self._is_new(what):
            log.warning(what, camera=self._name, **values)

    def _is_new(self, what: str) -> bool:
        """Whether a thing was not logged of late, be it with other numbers; from now on it was."""
        what, now = re.sub(r"\d+", "#", what), now_ns()
        if now - self._logged_ns.get(what, -(2**62)) < AGAIN_S * 1e9:
            return False
        if len(self._logged_ns) >= MAX_LOGGED:
            self._logged_ns.clear()
        self._logged_ns[what] = now
        return True
