"""What `inspectd-train fit` does, step by step: train, export, choose the recipe, prove INT8.

A data set becomes a bundle. `inspectd-train export` begins at the second step.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from inspectd.runtime.errors import UserError
from inspectd_train.bundle.calibrate import calibrate, choose_mask_levels
from inspectd_train.bundle.export import UNFINISHED, clear_away, move_in, write_bundle
from inspectd_train.bundle.parity import measure_parity
from inspectd_train.bundle.search import Wish
from inspectd_train.bundle.weights import Origin, starting_net, trained_net
from inspectd_train.data.dataset import DataSet, Sample, load
from inspectd_train.files import held_alone
from inspectd_train.net.csnet import CSNet, cooled
from inspectd_train.train.checks import best_temperature, segmenter
from inspectd_train.train.fabric import open_fabric
from inspectd_train.train.progress import shown_progress
from inspectd_train.train.run import Run, RunSettings, open_run
from inspectd_train.train.state import RECORD, STATE, TRAINING, holds_run
from inspectd_train.train.train import SAVE_EVERY_S, train

RECIPE = "recipe.toml"
REPORTS = ("report.html", "report.json")


def fit(
    data: DataSet,
    out: Path,
    settings: RunSettings,
    origin: Origin | None,
    wish: Wish,
    threads: int,
    resume: bool,
    say: Console,
) -> dict[str, Any]:
    """Trains into `out`/training, then writes the bundle `out`; returns the figures of the dev parts.

    Under torchrun only the first process writes, and the others return nothing. UserError: a folder in the way,
    another run's state, and all that `train` and the later steps raise.
    """
    folder, fabric = out / TRAINING, open_fabric(threads)
    with held_alone(folder) if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            _check_folder(out, folder, resume)
        fabric.barrier()
        run, net = open_run(data, folder, settings, fabric), starting_net(data, settings, origin)
        folder.mkdir(parents=True, exist_ok=True)
        if not fabric.is_global_zero:
            train(run, net, net.stride, resume, lambda _progress, _share: None)
            return {}
        say.print(_in_words(run, fabric, threads), highlight=False)
        try:
            with shown_progress(folder, say) as report:
                train(run, net, net.stride, resume, report)
        except KeyboardInterrupt:
            say.print(how_to_go_on(out, data, wish), soft_wrap=True, highlight=False)
            raise
        return bundle_of(run, out, wish, threads, say)


def bundle_of(run: Run, out: Path, wish: Wish, threads: int, say: Console) -> dict[str, Any]:
    """Exports the run's best network, chooses the recipe on dev, and proves INT8; returns dev's figures.

    All of it happens in a folder within `out`, which becomes the bundle at the end: a new network never stands
    beside thresholds, or a report, of an old one. A recipe that is there keeps all but its thresholds.
    """
    record = json.loads((run.out / RECORD).read_text("utf-8"))
    if record["data_sha256"] != run.data_sha256:
        raise UserError(
            f"{run.data.folder}: is not what {run.out} learned from (pictures, masks, classes or split differ); "
            "name that data set, or train anew"
        )
    clear_away(out)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=out) as folder:
        made = Path(folder) / out.resolve().name
        made.mkdir()
        if (out / RECIPE).is_file():
            shutil.copy(out / RECIPE, made)
        figures = _export_choose_prove(run, record, made, wish, threads, say)
        for name in REPORTS:
            (out / name).unlink(missing_ok=True)
        move_in(made, out)
    return figures


def _export_choose_prove(
    run: Run, record: dict[str, Any], out: Path, wish: Wish, threads: int, say: Console
) -> dict[str, Any]:
    """Writes the whole bundle into the folder `out`; returns the figures of the dev parts, INT8's among them."""
    net = trained_net(run.out, record)
    dev = load(run.data, "dev", run.settings.channels)
    with _step(say, "exporting: fp32, fp16, int8"):
        _export(run, net, record, dev, out)
    with _step(say, "choosing thresholds on dev"):
        figures = calibrate(out, run.data, run.settings.part_px, wish, threads)
    if len(record["checks"]) > 1 and record["best_check"] == len(record["checks"]) - 1:
        figures["notes"].append("the last check on dev was the best: more time would likely make it better")
    if record.get("checked", len(run.dev)) < len(run.dev):
        figures["notes"].append(
            f"checks looked at {record['checked']} of {len(run.dev)} dev parts: all take too long"
        )
    with _step(say, "proving int8 against fp32 on dev"):
        figures["int8"] = measure_parity(out, net, run.dev, threads)["int8"]
    return figures


@contextmanager
def _step(say: Console, what: str) -> Iterator[None]:
    """Says what is being done, with the seconds that it has taken so far where the console is a terminal."""
    columns = TextColumn(what), SpinnerColumn(), TimeElapsedColumn()
    if not say.is_terminal:
        say.print(what, highlight=False)
    with Progress(*columns, console=say, disable=not say.is_terminal) as shown:
        shown.add_task("", total=None)
        yield


def _export(run: Run, net: CSNet, record: dict[str, Any], dev: list[Sample], out: Path) -> None:
    """Writes the bundle of a trained network, which is calibrated on dev before."""
    temperature = best_temperature(net, run.dev, net.classes, net.stride, torch.device("cpu"))
    cooled(net, temperature)
    score = segmenter(net, torch.device("cpu"))
    levels = choose_mask_levels(((score(d.image), d.mask) for d in dev), len(run.data.classes), net.stride)
    trained = {key: record[key] for key in ("data", "data_sha256", "split", "settings")}
    trained["dev"] = record["checks"][record["best_check"]]
    trained["passes"] = record["checks"][-1].get("passes")  # which records of older versions lack
    trained["temperature"] = temperature
    write_bundle(net, run.data.classes, run.learn, dev, out, trained, levels)


def how_to_go_on(out: Path, data: DataSet, wish: Wish) -> str:
    """The sentence that says what an interrupted run has left, and what can be done with it."""
    folder = out / TRAINING
    if not (folder / STATE).is_file():
        return f"nothing was kept yet (that happens every {SAVE_EVERY_S:g} s); begin again"
    if not (folder / RECORD).is_file():
        return "the same command with --resume goes on (the first check, which keeps weights, was not reached)"
    asked = f" --overkill {wish.max_overkill:g}" if wish != Wish() else ""
    return (
        f"the same command with --resume goes on; inspectd-train export {out} {data.folder}{asked} makes a bundle "
        "of the best weights so far"
    )


def _check_folder(out: Path, folder: Path, resume: bool) -> None:
    """Raises UserError unless `out` is new, or holds a run that `resume` asks to go on with."""
    running = holds_run(folder, out, resume)
    if not running and out.is_dir() and any(path.name not in ("parts", TRAINING) for path in out.iterdir()):
        raise UserError(f"{out}: is not empty; choose a new folder for --out")


def _in_words(run: Run, fabric: Fabric, threads: int) -> str:
    """What is printed before a run: what it learns from, which network, how long and where."""
    own = run.settings
    place = (
        f"{fabric.world_size} x {fabric.device.type}" if fabric.device.type == "cuda" else f"{threads} CPU threads"
    )
    length = f"{own.minutes:g} minutes" if own.minutes else f"{own.epochs} epochs"
    defects = ", ".join(f"{name} {len(p)}" for name, p in zip(run.data.classes, run.defects, strict=True))
    return (
        f"{len(run.learn)} training pictures (defects: {defects}), {len(run.dev)} dev parts; "
        f"CSNet-{own.net.upper()}, {own.channels} channel(s), {length}, {place}, {fabric._precision.precision}"
    )
