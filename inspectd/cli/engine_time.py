"""Whether the engine alone takes longer for a picture than a recipe's deadline allows, for `check`."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from inspectd.engine import open_segmenter
from inspectd.engine.bundle import Bundle
from inspectd.extract.plan import U8
from inspectd.runtime.slots import Shape
from inspectd.settings.engine import EngineConfig, OpenVinoEngine
from inspectd.settings.recipe import LoadedRecipe
from inspectd.steer.doubts import report

TRIES, TRIED_S = 5, 1.0
"""Most pictures of which the fastest counts, as something else may run on this machine just now; and the time in
seconds after which no further one is tried.
"""


def too_late(
    config: EngineConfig, bundle: Bundle, using: Sequence[tuple[LoadedRecipe, Sequence[Shape]]]
) -> list[str]:
    """A warning, with its place, for each recipe whose deadline the model can't meet here; prints what it needs.

    using: the recipes that use the bundle, with their pictures. On a GPU nothing is measured: the daemon may run
    there, and plans may have yet to be built.
    """
    if not isinstance(config, OpenVinoEngine):
        return []
    segment = open_segmenter(config, bundle)
    needed_ms = {shape: _fastest_ms(segment, shape) for shape in dict.fromkeys(s for _, own in using for s in own)}
    for shape, ms in needed_ms.items():
        print(f"{bundle.path}: {shape.width}x{shape.height} takes {ms:.1f} ms")
    warnings: list[str] = []
    for recipe, shapes in using:
        slowest = max(shapes, key=lambda shape: needed_ms[shape], default=None)
        if slowest is not None and needed_ms[slowest] >= recipe.recipe.deadline_ms:
            needs = f"{needed_ms[slowest]:.1f} ms for a picture of {slowest.width}x{slowest.height}"
            what = f"the network alone needs {needs} here: every part is UNKNOWN/deadline; allow more"
            warnings += report(recipe, [(("deadline_ms",), what)])
    return warnings


def _fastest_ms(segment: Callable[[U8], tuple[U8, U8]], shape: Shape) -> float:
    picture = np.full(shape, 128, np.uint8)
    segment(picture)  # compiles
    took_s: list[float] = []
    until_s = time.perf_counter() + TRIED_S
    while not took_s or (len(took_s) < TRIES and time.perf_counter() < until_s):
        began_s = time.perf_counter()
        segment(picture)
        took_s.append(time.perf_counter() - began_s)
    return min(took_s) * 1e3
