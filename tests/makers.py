"""Makers of the plain things that many tests need."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings

from inspectd.extract.plan import Plan, make_plan
from inspectd.runtime.clock import now_ns, utc_of
from inspectd.runtime.frame import Frame, Region
from inspectd.settings.recipe import Limits, Recipe, View

LIMITS = Limits(suspect=0.4, reject=0.6)


@contextmanager
def disk_for(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def examples(count: int) -> Callable[[Any], Any]:
    """Settings of a property test with `count` examples."""
    allowed = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=count, deadline=None, suppress_health_check=allowed)


def plan_for(
    rect: tuple[int, int, int, int] = (0, 0, 64, 64),
    stride: int = 4,
    limits: dict[str, Limits] | None = None,
    view: View | None = None,
    max_regions: int = 64,
    scale: tuple[float, float] | None = None,
) -> Plan:
    """A plan by the real `make_plan`; the model knows exactly the classes that have limits."""
    limits = limits or {"spot": LIMITS}
    recipe = Recipe(model=".", deadline_ms=100, limits=limits, max_regions=max_regions)
    return make_plan(recipe, view or View(), rect, list(limits), stride, scale)


def region(
    score: float = 1.0, area_px: float = 100.0, length_px: float = 10.0, zone: str = "", class_: str = "spot"
) -> Region:
    """A region at an arbitrary place."""
    return Region(
        class_=class_, score=score, mean_score=score, bbox=(8, 8, 16, 16), centroid=(16.0, 16.0), area_px=area_px,
        length_px=length_px, contour=[(10, 10)], zone=zone,
    )  # fmt: skip


def frame(part_id: int = 1, camera: int = 0, deadline_s: float = 60.0, slot: int = -1) -> Frame:
    """A frame exposed now."""
    now = now_ns()
    made = Frame(camera, part_id, part_id, now, utc_of(now), now + int(deadline_s * 1e9))
    made.slot = slot
    return made


def gap(part_id: int = 1, parts: int = 1, camera: int = 0) -> Frame:
    """Triggers from this part on of which no picture came, as a count shows them."""
    made = frame(part_id, camera)
    made.parts, made.exposed = parts, False
    return made


def shown_on(terminal: int) -> bytes:
    """All that is shown on a pseudo-terminal until nobody has it open any more; closes our end of it."""
    shown = b""
    try:
        while piece := os.read(terminal, 65536):
            shown += piece
    except OSError:
        pass  # the end of a terminal
    os.close(terminal)
    return shown
