"""`inspectd-train`: from a data set to a model bundle, on the CPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from inspectd.errors import UserError, missing_package

ALL_THREADS = os.cpu_count() or 1

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
say = Console()

DataSetFolder = Annotated[
    Path, typer.Argument(metavar="DATASET", help="Folder with images/, masks/, classes.json.")
]
Split = Annotated[str, typer.Option(help="Split file in the data set folder.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]


@app.command()
def parts(data_set: DataSetFolder, out: Path, split: Split = "split.json") -> None:
    """Cut demo parts out of the test split by a fixed rule, before any network has seen it."""
    from tools.dataset import open_data_set
    from tools.demo_parts import write_demo_parts

    with _plain_errors():
        say.print(f"{write_demo_parts(open_data_set(data_set, split), out)} parts in {out}")


@app.command()
def train(
    data_set: DataSetFolder,
    out: Annotated[Path, typer.Option(help="Folder for the run: weights, settings, checks.")],
    minutes: Annotated[float, typer.Option(min=0.05, help="Wall clock to train for.")],
    split: Split = "split.json",
    threads: Threads = ALL_THREADS,
    seed: int = 0,
) -> None:
    """Train a network; keeps the weights that are best on the dev split."""
    import cv2
    import torch

    from tools.dataset import open_data_set
    from tools.train import Settings
    from tools.train import train as run_training

    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    with _plain_errors():
        run_training(open_data_set(data_set, split), out, Settings(minutes=minutes, seed=seed), say)


@app.command()
def export(run: Path, data_set: DataSetFolder, bundle: Path, split: Split = "split.json") -> None:
    """Write the bundle's graph, golden images and manifest, and measure that all runtimes agree."""
    from tools.dataset import open_data_set
    from tools.export import export as write_bundle

    with _plain_errors():
        parity = write_bundle(run, open_data_set(data_set, split), bundle)
    say.print(
        f"{bundle}: golden scores of ONNX Runtime fp32 within {parity.torch_fp32}/255 of torch's and "
        f"{parity.openvino}/255 of OpenVINO's on this machine"
    )


@app.command()
def evaluate(bundle: Path, data_set: DataSetFolder, split: Split = "split.json", threads: Threads = 1) -> None:
    """Choose the recipe on the dev split, measure it on the test split and the demo parts, write the report."""
    from tools.dataset import open_data_set
    from tools.evaluate import evaluate as measure

    with _plain_errors():
        figures = measure(bundle, open_data_set(data_set, split), threads)
    say.print_json(data=figures)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """A user's mistake ends in its sentence and its exit code, not in a traceback."""
    try:
        yield
    except UserError as error:
        Console(stderr=True).print(str(error), soft_wrap=True, markup=False, highlight=False)
        raise typer.Exit(error.exit_code) from None


def main() -> None:
    """Entry point."""
    try:
        app()
    except ModuleNotFoundError as error:
        print(f"inspectd-train: {missing_package(error, 'train')}", file=sys.stderr)
        sys.exit(UserError.exit_code)
