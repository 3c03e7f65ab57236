"""`inspectd-train`: from a folder of pictures to a bundle that the daemon loads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from inspectd.cli.usage import HELP_OPTIONS, call
from inspectd.runtime.errors import UserError, missing_package
from inspectd_train.cli.bundle import bundle_commands
from inspectd_train.cli.console import (
    ALL_THREADS,
    DataSetFolder,
    PartPx,
    SplitFile,
    Threads,
    part_px,
    plain_errors,
    say,
)
from inspectd_train.cli.data import data_commands
from inspectd_train.cli.figures import dev_in_words, end_if_unproven

app = typer.Typer(
    help="Make a bundle that the daemon loads out of a folder of pictures.",
    no_args_is_help=True, pretty_exceptions_enable=False, context_settings=HELP_OPTIONS,
)  # fmt: skip
data_commands(app)

Overkill = Annotated[float, typer.Option(min=0, max=1, help="Share of good parts that may be ejected.")]
Size = Literal["xs", "s", "m", "xl"]


@app.command()
def fit(
    data_set: DataSetFolder,
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    net: Annotated[Size | None, typer.Option(help="Size of the network; s, or with --from as there.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.05, help="Wall clock to train for.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of --minutes.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out, which was interrupted.")] = False,
    origin: Annotated[Path | None, typer.Option("--from", help="Bundle to begin with.")] = None,
    mode: Annotated[
        Literal["transfer", "fine-tune"], typer.Option(help="With --from: learn new classes, or go on.")
    ] = "fine-tune",
    channels: Annotated[
        Literal["1", "3"] | None, typer.Option(help="Grey or colour; as stored, or with --from as there.")
    ] = None,
    part: PartPx = "",
    overkill: Overkill = 0.05,
    flip: Annotated[
        Literal["both", "sides", "none"], typer.Option(help="How parts may lie; sides: never upside down.")
    ] = "both",
    batch: Annotated[int | None, typer.Option(min=2, help="Crops a step; as memory and speed like it.")] = None,
    crop: Annotated[int | None, typer.Option(min=64, help="Side of a crop, px; what most pictures hold.")] = None,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-3,
    patience: Annotated[int, typer.Option(min=0, help="Checks without progress that end the run; 0 never.")] = 0,
    deterministic: Annotated[bool, typer.Option(help="Same weights at each repetition; with --epochs.")] = False,
    split_file: SplitFile = "split.json",
    threads: Threads = ALL_THREADS,
) -> None:
    """Train a network, export it, choose its recipe on dev: a bundle that the daemon loads."""
    with plain_errors():
        from inspectd.engine.bundle import load_bundle
        from inspectd.runtime.left_out import left_out
        from inspectd_train.bundle.search import Wish
        from inspectd_train.bundle.weights import FINE_TUNING_RATE, Origin, net_of
        from inspectd_train.cli.fit import fit as make_bundle
        from inspectd_train.data.dataset import grey_in_colour, open_data_set, stored_channels
        from inspectd_train.train.run import RunSettings

        if (minutes is None) == (epochs is None):
            raise UserError("give --minutes M for a time, or --epochs N for a number of passes")
        if deterministic and epochs is None:
            raise UserError("--deterministic needs --epochs N: what fits into minutes differs from run to run")
        data, start = open_data_set(data_set, split_file), Origin(origin, mode) if origin else None
        seen = load_bundle(origin).manifest.channels if origin else stored_channels(data)
        if missed := left_out(data_set / "images").missed:
            say.print(f"left out of {data_set / 'images'}: {missed}", highlight=False)
        if seen == 3 and not channels and grey_in_colour(data):
            say.print("the pictures are grey, stored as RGB: for a grey camera (Mono8) say --channels 1")
        settings = RunSettings(
            minutes=minutes, epochs=epochs, seed=seed, channels=int(channels or seen),
            net=net or (net_of(origin) if origin else "s"),
            part_px=part_px(part), batch=batch, crop_px=crop, flip=flip, patience=patience,
            learning_rate=learning_rate * (FINE_TUNING_RATE if origin and mode == "fine-tune" else 1.0),
            deterministic=deterministic, origin=str(start) if start else "",
        )  # fmt: skip
        figures = make_bundle(data, out, settings, start, Wish(max_overkill=overkill), threads, resume, say)
        if figures:
            _report_dev(figures, out, data_set)


@app.command()
def export(
    bundle: Annotated[Path, typer.Argument(help="Folder that `fit` made, whose training was ended early.")],
    data_set: DataSetFolder,
    overkill: Overkill = 0.05,
    threads: Threads = ALL_THREADS,
) -> None:
    """Make the bundle of the best weights so far: export, recipe and proof, without more training."""
    with plain_errors():
        from inspectd_train.bundle.search import Wish
        from inspectd_train.cli.fit import bundle_of
        from inspectd_train.data.dataset import open_data_set
        from inspectd_train.files import held_alone
        from inspectd_train.train.fabric import open_fabric
        from inspectd_train.train.run import open_run, recorded_settings
        from inspectd_train.train.state import TRAINING

        split_file, settings = recorded_settings(bundle / TRAINING)
        with held_alone(bundle / TRAINING):
            run = open_run(open_data_set(data_set, split_file), bundle / TRAINING, settings, open_fabric(threads))
            figures = bundle_of(run, bundle, Wish(max_overkill=overkill), threads, say)
        _report_dev(figures, bundle, data_set)


bundle_commands(app)


@app.command()
def parts(data_set: DataSetFolder, out: Path, split_file: SplitFile = "split.json") -> None:
    """Cut demo parts out of the test split by a fixed rule, before any network has seen it."""
    with plain_errors():
        from inspectd_train.data.dataset import open_data_set
        from inspectd_train.data.demo_parts import write_demo_parts

        print(f"{write_demo_parts(open_data_set(data_set, split_file), out)} parts in {out}")


def _report_dev(figures: dict[str, Any], bundle: Path, data_set: Path) -> None:
    """Prints what fit says last: how good the bundle is on dev, and what to do next; typer.Exit if unproven."""
    proof = figures["int8"]
    say.print(
        f"dev: {dev_in_words(figures)}; int8 {'usable' if proof['usable'] else 'not used: ' + proof['reason']}",
        highlight=False,
    )
    for note in figures["notes"]:
        say.print(note, highlight=False)
    end_if_unproven(bundle, figures)
    say.print(f"{bundle} is ready; next: inspectd-train evaluate {bundle} {data_set}", highlight=False)


def main() -> None:
    """Runs the command line of `inspectd-train`; a package that is not installed ends it with one sentence."""
    try:
        sys.exit(call(app, "inspectd-train"))
    except ModuleNotFoundError as error:
        print(f"inspectd-train: {missing_package(error, 'train')}", file=sys.stderr)
        sys.exit(UserError.exit_code)


if __name__ == "__main__":
    main()
