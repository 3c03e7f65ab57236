"""The commands on a bundle that is there: `inspectd-train calibrate | evaluate | compare | predict | build`."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated, Any

import typer

from inspectd.runtime.errors import UserError
from inspectd_train.cli.console import (
    ALL_THREADS,
    DataSetFolder,
    Json,
    PartPx,
    Threads,
    part_px,
    plain_errors,
    size_px,
)
from inspectd_train.cli.figures import end_if_unproven, show_comparison, show_evaluation, show_recipe

SMALLEST_PX = 64
"""The smallest side of a camera's picture, as its config has it."""
BundleSplit = Annotated[str, typer.Option(help="Split file in the data set folder; as when it was trained.")]


def calibrate(
    bundle: Path,
    data_set: DataSetFolder,
    overkill: Annotated[float | None, typer.Option(min=0, max=1, help="Good parts that may be ejected.")] = None,
    escape: Annotated[float | None, typer.Option(min=0, max=1, help="Bad parts that may pass.")] = None,
    false_regions: Annotated[float | None, typer.Option(min=0, help="Per picture, beside any defect.")] = None,
    part: PartPx = "",
    split_file: BundleSplit = "",
    threads: Threads = ALL_THREADS,
    json: Json = False,
) -> None:
    """Choose suspect, reject and minimum area per class on dev for a wish, and write recipe.toml."""
    with plain_errors():
        from inspectd_train.bundle.calibrate import calibrate as choose
        from inspectd_train.bundle.parity import prove_again
        from inspectd_train.bundle.search import Wish
        from inspectd_train.bundle.trained import strange_to, trained_split
        from inspectd_train.data.dataset import open_data_set
        from inspectd_train.files import held_alone
        from inspectd_train.train.state import TRAINING

        given = [value for value in (overkill, escape, false_regions) if value is not None]
        if len(given) != 1:
            raise UserError("give one wish: --overkill 0.05, --escape 0.02 or --false-regions 0.2")
        data = open_data_set(data_set, split_file or trained_split(bundle))
        wish, size = Wish(overkill, escape, false_regions), part_px(part, bundle)
        with held_alone(bundle / TRAINING):
            figures = choose(bundle, data, size, wish, threads)
            figures["int8"] = prove_again(bundle, data, size, threads)
        figures["notes"] += strange_to(bundle, data)
        _print(figures) if json else show_recipe(figures)
        end_if_unproven(bundle, figures)


def evaluate(
    bundle: Path,
    data_set: DataSetFolder,
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    part: PartPx = "",
    recipe: Annotated[Path | None, typer.Option(help="Instead of the bundle's recipe.toml.")] = None,
    report: Annotated[bool, typer.Option(help="Write report.html and report.json into the bundle.")] = True,
    split_file: BundleSplit = "",
    threads: Threads = ALL_THREADS,
    json: Json = False,
) -> None:
    """Measure a bundle: per part, per defect, per pixel, by the daemon's own engine and judging code."""
    with plain_errors():
        from inspectd_train.bundle.trained import strange_to, trained_split
        from inspectd_train.data.dataset import open_data_set
        from inspectd_train.measure.evaluate import evaluate as measure
        from inspectd_train.report.report import write_report

        data = open_data_set(data_set, split_file or trained_split(bundle))
        figures = measure(bundle, data, split, part_px(part, bundle), threads, recipe)
        figures["notes"] += strange_to(bundle, data)
        if report:
            write_report(bundle, bundle, data, figures, threads, recipe)
        page = bundle / "report.html" if report else None
        _print(figures) if json else show_evaluation(figures, page)


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
    split_file: BundleSplit = "",
    threads: Threads = ALL_THREADS,
    json: Json = False,
) -> None:
    """Judge the same parts twice. Exit code 1 when B passes a bad part that A held, or ejects more good ones."""
    with plain_errors():
        from inspectd_train.bundle.trained import strange_to, trained_split
        from inspectd_train.data.dataset import open_data_set
        from inspectd_train.report import compare as comparison

        first, second = (comparison.Side(x, r or x / "recipe.toml") for x, r in ((a, recipe_a), (b, recipe_b)))
        data = open_data_set(data_set, split_file or trained_split(b))
        result = comparison.compare(first, second, data, split, part_px(part, b), threads)
        result["notes"] += strange_to(b, data)
        if page is not None:
            comparison.write_page(result, page)
        fine = comparison.accepted(result, overkill_allowed)
        shown = {k: v for k, v in result.items() if k != "changes"}
        _print(shown | {"accepted": fine}) if json else show_comparison(shown, fine)
    raise typer.Exit(0 if fine else 1)


def predict(
    bundle: Path,
    images: Annotated[Path, typer.Argument(help="Folder of pictures.")],
    out: Annotated[Path, typer.Option(help="Gets masks/, overlays/ and classes.json.")],
    recipe: Annotated[Path | None, typer.Option(help="Instead of the bundle's recipe.toml.")] = None,
    threads: Threads = ALL_THREADS,
) -> None:
    """Write masks and overlays of unlabelled pictures, to be corrected instead of painted."""
    with plain_errors():
        from inspectd_train.report.predict import predict as label

        said = label(bundle, images, out, recipe, threads)
        print(", ".join(f"{word} {count}" for word, count in sorted(said.items())))


def build(
    bundle: Path,
    target: Annotated[str, typer.Option(help="GPUs: sm75,sm86,sm89,sm120 as far as there, or this.")] = "this",
    out: Annotated[Path, typer.Option(help="The daemon's folder of plans.")] = Path("plans"),
    size: Annotated[list[str] | None, typer.Option(metavar="WxH", help="Of the pictures; repeatable.")] = None,
    timeout_s: Annotated[float, typer.Option(min=1, help="For each plan.")] = 1800.0,
    device: Annotated[int, typer.Option(min=0, help="Which GPU is `this`, as nvidia-smi -L counts.")] = 0,
    json: Json = False,
) -> None:
    """Build TensorRT's plans ahead of time; without --size for pictures as big as the golden images."""
    with plain_errors():
        from inspectd.engine.bundle import load_bundle
        from inspectd_train.bundle.build import build_plans

        sizes = [size_px("--size", words, SMALLEST_PX) for words in size or ()]
        targets = [name.strip() for name in target.split(",")]
        for plan in build_plans(load_bundle(bundle), targets, sizes, out, timeout_s, device):
            if json:
                print(json_text.dumps(plan._asdict()), flush=True)
                continue
            proof = "not proven" if plan.difference is None else f"{plan.difference}/255 from the CPU"
            what = f"{plan.file}  {plan.target}  {plan.precision}  {plan.size}"
            print(f"{what}  {plan.mebibytes} MiB  {plan.seconds} s  {proof}", flush=True)


def bundle_commands(to: typer.Typer) -> None:
    """Adds the five commands to an application."""
    for command in (calibrate, evaluate, compare, predict, build):
        to.command()(command)


def _print(figures: dict[str, Any]) -> None:
    """Prints all figures as JSON."""
    print(json_text.dumps(figures, indent=1, allow_nan=False))
