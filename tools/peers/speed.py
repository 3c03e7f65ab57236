"""Times each network on this CPU: `python -m inspectd_train.peers.speed --sizes 1024 --threads 2`.

OpenVINO runs the deployed graphs as the daemon does: uint8 picture in, uint8 scores out at the network's own
stride, static shape, latency hint, one stream. All engines take turns, round by round, so that whatever else the
machine does meets all of them; the figure is the median over the rounds. Weights and pictures are random.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch
import typer
from rich.console import Console

from inspectd.runtime.errors import UserError
from inspectd_train.peers.graphs import graphs, random_picture, settled
from inspectd_train.peers.lraspp import version as torchvision_version
from inspectd_train.peers.nets import ALL_THREADS, NAMES, TITLES, Name, build, known

# `import openvino` would report home by a forked child; without this package it uses a stub of its own.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino as ov  # noqa: E402

Precision = Literal["f32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16", "int8")
REFERENCE: Name = "csnet-s"
REPEATS = 3
"""The timed inferences a round, after one that fills the caches again."""
Row = dict[str, Any]


@dataclass(frozen=True)
class TimedNet:
    """One network for pictures of size_px x size_px in one precision, ready to run."""

    net: Name
    size_px: int
    precision: Precision
    request: ov.InferRequest

    def ms(self) -> list[float]:
        """Times one picture REPEATS times, in ms, after once that doesn't count."""
        self.request.infer()
        found = []
        for _ in range(REPEATS):
            start_ns = time.perf_counter_ns()
            self.request.infer()
            found.append((time.perf_counter_ns() - start_ns) / 1e6)
        return found


def measure(
    names: tuple[Name, ...], sizes_px: list[int], threads: int, rounds: int, classes: int, channels: int
) -> list[Row]:
    """Measures a row per net, size and precision: ms per MPixel (median, quartiles) and the ratio to CSNet-S.

    Precisions that this CPU hasn't got are left out. `stride` in px.
    """
    engines, strides = [], {}
    for name in names:
        torch.manual_seed(0)
        net = settled(build(name, channels, classes))
        strides[name] = net.stride
        engines += list(_engines(name, graphs(net), sizes_px, threads, channels))
    times: list[list[float]] = [[] for _ in engines]
    for _ in range(rounds):
        for own, engine in zip(times, engines, strict=True):
            own += engine.ms()
    rows = []
    for own, engine in zip(times, engines, strict=True):
        low, middle, high = (float(q) * 1e6 / engine.size_px**2 for q in np.quantile(own, (0.25, 0.5, 0.75)))
        row: Row = {"net": engine.net, "stride": strides[engine.net], "size_px": engine.size_px}
        row |= {"precision": engine.precision, "ms_per_mpixel": middle, "quartiles": [low, high]}
        rows.append(row | {"times": len(own)})
    return [row | {"ratio_to_s": _ratio(row, rows)} for row in rows]


def _engines(
    name: Name, files: dict[str, bytes], sizes_px: list[int], threads: int, channels: int
) -> Iterator[TimedNet]:
    for size_px in sizes_px:
        picture = random_picture(size_px, channels, seed=99)[None]
        for precision in PRECISIONS:
            compiled = _compiled(
                files["int8" if precision == "int8" else "fp32"], picture.shape, threads, precision
            )
            chosen = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
            if precision == "bf16" and chosen != precision:
                continue
            request = compiled.create_infer_request()
            request.set_tensor("image", ov.Tensor(picture))
            yield TimedNet(name, size_px, precision, request)


def _compiled(file: bytes, shape: tuple[int, ...], threads: int, precision: Precision) -> ov.CompiledModel:
    """Compiles with the options of `inspectd.engine.openvino`; without a hint OpenVINO takes the fastest float."""
    core = ov.Core()
    model = core.read_model(file)
    model.reshape({"image": list(shape)})
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    if precision == "f32":
        options["INFERENCE_PRECISION_HINT"] = precision
    return core.compile_model(model, "CPU", options)


def _ratio(row: Row, rows: list[Row]) -> float | None:
    """How many times as long as CSNet-S in the same precision and size; None if that wasn't measured."""
    same = [
        r["ms_per_mpixel"]
        for r in rows
        if r["net"] == REFERENCE and (r["size_px"], r["precision"]) == (row["size_px"], row["precision"])
    ]
    return row["ms_per_mpixel"] / statistics.fmean(same) if same else None


def machine(threads: int) -> dict[str, Any]:
    """Names what the figures depend on besides the networks: CPU, threads, versions."""
    return {
        "cpu": str(ov.Core().get_property("CPU", "FULL_DEVICE_NAME")).strip(),
        "threads": threads,
        "openvino": ov.__version__.split("-")[0],
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision_version(),
    }


def table(rows: list[Row], about: dict[str, Any]) -> str:
    """The table in Markdown: a line per net and size, ms per MPixel and in brackets the ratio to CSNet-S."""
    shown = [p for p in PRECISIONS if any(row["precision"] == p for row in rows)]
    lines = [["net", "stride", "size, px", *shown], ["-"] * (3 + len(shown))]
    for key in dict.fromkeys((row["net"], row["stride"], row["size_px"]) for row in rows):
        own = {r["precision"]: r for r in rows if (r["net"], r["stride"], r["size_px"]) == key}
        lines.append([TITLES[key[0]], str(key[1]), str(key[2]), *(_cell(own.get(p)) for p in shown)])
    said = ", ".join(f"{key} {value}" for key, value in about.items())
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    missing = "" if "bf16" in shown else " This CPU doesn't multiply bf16."
    return f"{text}\n\nms per MPixel (in brackets: times CSNet-S in the same precision). {said}.{missing}"


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    ratio = "" if row["ratio_to_s"] is None else f" ({row['ratio_to_s']:.2f} x)"
    return f"{row['ms_per_mpixel']:.2f}{ratio}"


def main(
    sizes: Annotated[list[int], typer.Option(min=64, help="Sides of the pictures, px; may be repeated.")] = [1024],  # noqa: B006
    threads: Annotated[int, typer.Option(min=1)] = ALL_THREADS,
    rounds: Annotated[int, typer.Option(min=1)] = 15,
    classes: Annotated[int, typer.Option(min=1)] = 1,
    channels: Annotated[int, typer.Option(min=1, max=3)] = 1,
    nets: Annotated[list[str] | None, typer.Option(help=f"{', '.join(NAMES)}: all by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON, nothing else.")] = False,
) -> None:
    """Measure all networks in one run."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    try:
        chosen = tuple(known(name) for name in nets) if nets else NAMES
        rows = measure(chosen, sizes, threads, rounds, classes, channels)
    except UserError as error:
        Console(stderr=True).print(str(error), soft_wrap=True, markup=False, highlight=False)
        raise typer.Exit(error.exit_code) from None
    about = machine(threads)
    print(json.dumps({"machine": about, "rows": rows}, indent=1) if as_json else table(rows, about))


if __name__ == "__main__":
    typer.run(main)
