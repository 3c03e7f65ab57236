"""`inspectd-train`: from a folder of pictures to a bundle that the daemon loads."""

from __future__ import annotations

import json as json_text
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from inspectd.errors import UserError, missing_package
from tools.cli_data import data_commands
from tools.console import plain_errors, say

ALL_THREADS = len(os.sched_getaffinity(0))

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
data_commands(app)

DataSetFolder = Annotated[
    Path, typer.Argument(metavar="DATASET", help="Folder with images/, masks/, classes.json and a split file.")
]
SplitFile = Annotated[str, typer.Option(help="Split file in the data set folder.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]
PartPx = Annotated[
    str, typer.Option("--part", metavar="WxH", help="A part is a crop of W x H px; otherwise the whole picture.")
]
Overkill = Annotated[float, typer.Option(min=0, max=1, help="Share of good parts that may be ejected.")]
Size = Literal["xs", "s", "m", "xl"]
Json = Annotated[bool, typer.Option("--json", help="Print figures as JSON, nothing else.")]


@app.command()
def fit(
    data_set: DataSetFolder,
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    net: Annotated[Size | None, typer.Option(help="Size of the network; s, or with --from as there.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.05, help="Wall clock to train for.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of --minutes.")] = None,
    seed: int = 0,
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
    crop: Annotated[int | None, typer.Option(min=64, help="Side of a crop, px; as pictures let it be.")] = None,
    learning_rate: Annotated[float, typer.Option(min=0)] = 2e-3,
    patience: Annotated[int, typer.Option(min=0, help="Checks without progress that end the run; 0 never.")] = 0,
    deterministic: Annotated[bool, typer.Option(help="Same weights at each repetition; with --epochs.")] = False,
    split_file: SplitFile = "split.json",
    threads: Threads = ALL_THREADS,
) -> None:
    """Train a network, export it, choose its recipe on dev: a bundle that the daemon loads."""
    with plain_errors():
        from inspectd.engine.bundle import load_bundle
        from tools.dataset import open_data_set, stored_channels
        from tools.fit import FINE_TUNING_RATE, Origin, net_of
        from tools.fit import fit as make_bundle
        from tools.measure.search import Wish
        from tools.run import Settings

        if (minutes is None) == (epochs is None):
            raise UserError("give --minutes M for a time, or --epochs N for a number of passes")
        if deterministic and epochs is None:
            raise UserError("--deterministic needs --epochs N: what fits into minutes differs from run to run")
        data = open_data_set(data_set, split_file)
        seen = load_bundle(origin).manifest.channels if origin else stored_channels(data)
        settings = Settings(
            minutes=minutes, epochs=epochs, seed=seed, channels=int(channels or seen),
            net=net or (net_of(origin) if origin else "s"),
            part_px=_part_px(part), batch=batch, crop_px=crop, flip=flip, patience=patience,
            learning_rate=learning_rate * (FINE_TUNING_RATE if origin and mode == "fine-tune" else 1.0),
            deterministic=deterministic,
        )  # fmt: skip
        start = Origin(origin, mode) if origin else None
        figures = make_bundle(data, out, settings, start, Wish(max_overkill=overkill), threads, resume, say)
        if figures:
            _tell_dev(figures, out, data_set)


@app.command()
def export(
    bundle: Annotated[Path, typer.Argument(help="Folder that `fit` made, whose training was ended early.")],
    data_set: DataSetFolder,
    overkill: Overkill = 0.05,
    threads: Threads = ALL_THREADS,
) -> None:
    """Make the bundle of the best weights so far: export, recipe and proof, without more training."""
    with plain_errors():
        from tools.dataset import open_data_set
        from tools.fit import TRAINING, bundle_of, open_fabric
        from tools.measure.search import Wish
        from tools.run import open_run, recorded_settings

        split_file, settings = recorded_settings(bundle / TRAINING)
        run = open_run(open_data_set(data_set, split_file), bundle / TRAINING, settings, open_fabric(threads))
        _tell_dev(bundle_of(run, bundle, Wish(max_overkill=overkill), threads, say), bundle, data_set)


@app.command()
def calibrate(
    bundle: Path,
    data_set: DataSetFolder,
    overkill: Annotated[float | None, typer.Option(min=0, max=1, help="Good parts that may be ejected.")] = None,
    escape: Annotated[float | None, typer.Option(min=0, max=1, help="Bad parts that may pass.")] = None,
    false_regions: Annotated[float | None, typer.Option(min=0, help="Per picture, beside any defect.")] = None,
    part: PartPx = "",
    split_file: SplitFile = "split.json",
    threads: Threads = ALL_THREADS,
    json: Json = False,
) -> None:
    """Choose suspect, reject and minimum area per class on dev for a wish, and write recipe.toml."""
    with plain_errors():
        from tools.calibrate import calibrate as choose
        from tools.dataset import open_data_set
        from tools.fit import prove_again
        from tools.measure.search import Wish
        from tools.parity import distrust

        given = [value for value in (overkill, escape, false_regions) if value is not None]
        if len(given) != 1:
            raise UserError("give one wish: --overkill 0.05, --escape 0.02 or --false-regions 0.2")
        data = open_data_set(data_set, split_file)
        wish, size = Wish(overkill, escape, false_regions), _part_px(part, bundle)
        distrust(bundle, "the recipe was chosen anew, and INT8 not proven under it")
        figures = choose(bundle, data, size, wish, threads)
        figures["int8"] = prove_again(bundle, data, size, threads)
        _print(figures, json)


@app.command()
def evaluate(
    bundle: Path,
    data_set: DataSetFolder,
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    part: PartPx = "",
    recipe: Annotated[Path | None, typer.Option(help="Instead of the bundle's recipe.toml.")] = None,
    report: Annotated[bool, typer.Option(help="Write report.html and report.json into the bundle.")] = True,
    split_file: SplitFile = "split.json",
    threads: Threads = ALL_THREADS,
    json: Json = False,
) -> None:
    """Measure a bundle: per part, per defect, per pixel, by the daemon's own engine and judging code."""
    with plain_errors():
        from tools.dataset import open_data_set
        from tools.evaluate import evaluate as measure
        from tools.report import write_report

        data = open_data_set(data_set, split_file)
        figures = measure(bundle, data, split, _part_px(part, bundle), threads, recipe)
        if report:
            write_report(bundle, bundle, data, figures, threads, recipe)
        _print(figures, json)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Bundle in use.")],
    b: Annotated[Path, typer.Argument(help="Bundle that shall replace it; may be the same.")],
    data_set: DataSetFolder,
    recipe_a: Annotated[Path | None, typer.Option(help="Instead of A's recipe.toml.")] = None,
    recipe_b: Annotated[Path | None, typer.Option(help="Instead of B's.")] = None,
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    part: PartPx = "",
    overkill_allowed: Annotated[int, typer.Option(min=0, help="Good parts more that B may eject.")] = 0,
    page: Annotated[Path | None, typer.Option(help="HTML file for the pictures of all changes.")] = None,
    split_file: SplitFile = "split.json",
    threads: Threads = ALL_THREADS,
    json: Json = False,
) -> None:
    """Judge the same parts twice. Exit code 1 when B passes a bad part that A held, or ejects more good ones."""
    with plain_errors():
        from tools import compare as comparison
        from tools.dataset import open_data_set

        first, second = (comparison.Side(x, r or x / "recipe.toml") for x, r in ((a, recipe_a), (b, recipe_b)))
        data = open_data_set(data_set, split_file)
        result = comparison.compare(first, second, data, split, _part_px(part, a), threads)
        if page is not None:
            comparison.write_page(result, page)
        fine = comparison.accepted(result, overkill_allowed)
        _print({k: v for k, v in result.items() if k != "changes"} | {"accepted": fine}, json)
    raise typer.Exit(0 if fine else 1)


@app.command()
def predict(
    bundle: Path,
    images: Annotated[Path, typer.Argument(help="Folder of pictures.")],
    out: Annotated[Path, typer.Option(help="Gets masks/, overlays/ and classes.json.")],
    recipe: Annotated[Path | None, typer.Option(help="Instead of the bundle's recipe.toml.")] = None,
    threads: Threads = ALL_THREADS,
) -> None:
    """Write masks and overlays of unlabelled pictures, to be corrected instead of painted."""
    with plain_errors():
        from tools.predict import predict as label

        said = label(bundle, images, out, recipe, threads)
        print(", ".join(f"{word} {count}" for word, count in sorted(said.items())))


@app.command()
def parts(data_set: DataSetFolder, out: Path, split_file: SplitFile = "split.json") -> None:
    """Cut demo parts out of the test split by a fixed rule, before any network has seen it."""
    with plain_errors():
        from tools.dataset import open_data_set
        from tools.demo_parts import write_demo_parts

        print(f"{write_demo_parts(open_data_set(data_set, split_file), out)} parts in {out}")


def _part_px(words: str, bundle: Path | None = None) -> tuple[int, int] | None:
    """`512x384` as width and height; empty: what the bundle was trained for; `whole`: the whole picture."""
    if not words and bundle is not None:
        from tools.run import trained_part_px

        return trained_part_px(bundle)
    if words in ("", "whole"):
        return None
    try:
        width, height = (int(word) for word in words.lower().split("x"))
    except ValueError:
        raise UserError(f"--part {words}: want WIDTHxHEIGHT in px, as 512x384, or whole") from None
    from tools.dataset import SMALLEST_PX

    if min(width, height) < SMALLEST_PX:
        raise UserError(f"--part {words}: {SMALLEST_PX} x {SMALLEST_PX} px is the least")
    return width, height


def _print(figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json_text.dumps(figures, indent=1, allow_nan=False))
        return
    for name, value in figures.items():
        if isinstance(value, float):
            print(f"{name:22} {value:.4f}")
        elif isinstance(value, (int, str)):
            print(f"{name:22} {value}")
        elif isinstance(value, list) and all(isinstance(line, str) for line in value):
            for line in value:
                print(f"{name:22} {line}")


def _tell_dev(figures: dict[str, Any], bundle: Path, data_set: Path) -> None:
    """What fit says last: how good on dev, and what to do next."""
    proof = figures["int8"]
    say.print(
        f"dev: {figures['escapes']} of {figures['defective']} defective parts pass, {figures['overkill']} of "
        f"{figures['clean']} clean ones are ejected ({figures['undecided_clean']} of them in doubt); "
        f"int8 {'usable' if proof['usable'] else 'not used: ' + proof['reason']}",
        highlight=False,
    )
    for note in figures["notes"]:
        say.print(note, highlight=False)
    say.print(f"{bundle} is ready; next: inspectd-train evaluate {bundle} {data_set}", highlight=False)


def main() -> None:
    """Entry point."""
    try:
        app()
    except ModuleNotFoundError as error:
        print(f"inspectd-train: {missing_package(error, 'train')}", file=sys.stderr)
        sys.exit(UserError.exit_code)


if __name__ == "__main__":
    main()
