"""Builds TensorRT's plans ahead of time: for other GPUs (TensorRT-RTX needs none to build), or proven on this."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from inspectd.engine.bundle import Bundle
from inspectd.engine.tensorrt import api as tensorrt
from inspectd.engine.tensorrt.builder import Request
from inspectd.engine.tensorrt.cache import Wanted, proven_plan, run_builder
from inspectd.engine.tensorrt.plans import PlanKey, plan_folder
from inspectd.runtime.errors import UserError
from inspectd.runtime.slots import Shape

THIS = "this"


class BuiltPlan(NamedTuple):
    """A plan that was built, and what building it took."""

    file: str
    target: str
    precision: str
    size: str
    seconds: float
    mebibytes: float
    difference: int | None
    """How far its scores are from the CPU's on the proof picture, in 1/255; None: not proven, no such GPU here."""


def build_plans(
    bundle: Bundle,
    targets: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    out: Path,
    timeout_s: float,
    device: int,
) -> Iterator[BuiltPlan]:
    """Builds each plan that the daemon could want of the bundle, and yields it as soon as it is there.

    `sizes` are widths and heights of pictures; without any those of the golden images. UserError.
    """
    library = tensorrt.library()
    unknown = [target for target in targets if target not in (THIS, *tensorrt.targets(library))]
    if unknown:
        can = ", ".join([*tensorrt.targets(library), THIS])
        named = ", ".join(target or "(nothing)" for target in unknown)
        raise UserError(f"--target {named}: {library.name} {library.version} builds for {can}")
    channels = bundle.manifest.channels
    golden = [image.image.shape[1::-1] for image in bundle.golden]
    folder = plan_folder(out)
    for target in dict.fromkeys(targets):
        for width, height in dict.fromkeys(sizes or golden):
            for precision in (bundle.gpu_floats[0], *(["int8"] if bundle.int8_usable else [])):
                yield _built(
                    library, bundle, target, Shape(height, width, channels), precision, folder, timeout_s, device
                )


def _built(
    library: tensorrt.Library,
    bundle: Bundle,
    target: str,
    shape: Shape,
    precision: str,
    folder: Path,
    timeout_s: float,
    device: int,
) -> BuiltPlan:
    began_s, difference = time.monotonic(), None
    if target == THIS:
        from inspectd.engine.tensorrt.cuda import find  # pycuda: not needed for other GPUs
        from inspectd.engine.tensorrt.start import wanted_plan

        gpu = find(device)
        wanted = wanted_plan(library, gpu, folder, bundle, precision, shape)
        _, difference = proven_plan(wanted, bundle, gpu, timeout_s, None)
    else:
        key = PlanKey.of(library.name, library.version, bundle, precision, shape, target)
        wanted = Wanted(key, folder / key.file_name, folder / "unproven")
        run_builder(Request(str(bundle.path), key, str(wanted.path), None), wanted.title, timeout_s, None)
    seconds, size = time.monotonic() - began_s, wanted.path.stat().st_size / 2**20
    name = f"{shape.width}x{shape.height}"
    return BuiltPlan(
        wanted.path.name, wanted.key.target, precision, name, round(seconds, 1), round(size, 1), difference
    )
