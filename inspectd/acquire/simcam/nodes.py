"""In what the features of a simulated camera differ from a plain camera's: `struct nodes` of device.h."""

import ctypes

REGISTERS = 32
"""Registers of a camera: `R_COUNT` of device.h."""
NAMES = (
    "TimestampLatch", "TimestampLatchValue", "FrameStart", "ExposureStart", "AcquisitionFrameRate", "TriggerMode",
    "CounterValue", "ExposureTime",
)  # fmt: skip
"""Features (and entries of TriggerSelector) that can be missing: one bit each, in this order."""


class Nodes(ctypes.Structure):
    """All 0: a plain camera."""

    _fields_ = (
        ("missing", ctypes.c_uint64),
        ("unavailable", ctypes.c_uint64),
        ("exposure_step_ns", ctypes.c_uint64),
        ("size_step", ctypes.c_uint64),
        ("command_ns", ctypes.c_uint64),
        ("busy_until_ns", ctypes.c_uint64),
        ("user_set", ctypes.c_uint64 * REGISTERS),
    )

    def miss(self, names: str) -> None:
        """Let features with these NAMES, with spaces between, not be implemented; no others."""
        self.missing = _bits(names)

    def withhold(self, names: str) -> None:
        """Let features with these NAMES, with spaces between, not be available; no others."""
        self.unavailable = _bits(names)

    def round_exposure(self, step_us: float) -> None:
        """Let ExposureTime be rounded down to steps that no feature tells; 0 = to none."""
        self.exposure_step_ns = round(step_us * 1e3)

    def step_sizes(self, pixels: int) -> None:
        """Let Width, Height and their offsets go in steps."""
        self.size_step = pixels

    def slow_command(self, seconds: float) -> None:
        """Let user sets take so long to load or save, and nothing else be written meanwhile."""
        self.command_ns = int(seconds * 1e9)


def _bits(names: str) -> int:
    """The bits of features whose names stand in a row, with spaces between; raises ValueError for another name."""
    found = 0
    for name in names.split():
        if name not in NAMES:
            raise ValueError(f"{name!r} is none of {', '.join(NAMES)}")
        found |= 1 << NAMES.index(name)
    return found
