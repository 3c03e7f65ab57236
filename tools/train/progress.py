"""Shows a training run while it goes on: a bar with the figures that matter, TensorBoard, curves.png."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from inspectd_train.train.state import RECORD, RunProgress
from inspectd_train.train.train import Report

CURVES = "curves.png"
DEV = ("cell_miou", "cell_ap", "part_ap", "part_auroc")


@contextmanager
def shown_progress(out: Path, console: Console) -> Iterator[Report]:
    """Makes a `Report` that draws the bar, and writes `out`/tensorboard and `out`/curves.png."""
    from torch.utils.tensorboard import SummaryWriter  # imports for seconds

    events = SummaryWriter(str(out / "tensorboard"))
    columns = (
        TextColumn("training"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[says]}"),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("", total=1.0, says="")
        checks = 0

        def report(progress: RunProgress, share: float) -> None:
            nonlocal checks
            bar.update(task, completed=min(share, 1.0), says=_says(progress))
            if progress.step % 20 == 0:
                events.add_scalar("loss", progress.loss, progress.step)
            if len(progress.checks) > checks:
                checks = len(progress.checks)
                for name in ("score", *DEV):
                    events.add_scalar(f"dev/{name}", progress.checks[-1][name], progress.step)
                write_curves(json.loads((out / RECORD).read_text("utf-8")), out / CURVES)
                console.print(_line(progress.checks[-1]), highlight=False)

        yield report
    events.close()


def write_curves(record: dict[str, Any], file: Path) -> None:
    """Draws the loss and the figures on dev over the steps, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    loss, dev = figure.subplots(1, 2)
    loss.plot([step for step, _ in record["losses"]], [value for _, value in record["losses"]])
    loss.set(title="loss on the training crops", xlabel="step")
    for name in DEV:
        if any(check[name] for check in record["checks"]):
            steps, values = zip(*((check["step"], check[name]) for check in record["checks"]), strict=True)
            dev.plot(steps, values, marker=".", label=name)
    best = record["checks"][record["best_check"]]
    dev.axvline(best["step"], color="grey", linestyle=":", label="kept")
    dev.set(title="dev", xlabel="step", ylim=(0, 1.02))
    dev.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")  # beside, not over the last points
    figure.savefig(file, dpi=110)


def _says(progress: RunProgress) -> str:
    """The words beside the bar."""
    best = max((check["score"] for check in progress.checks), default=None)
    return f"step {progress.step}  loss {progress.loss:.3f}" + (
        f"  best dev {best:.3f}" if best is not None else ""
    )


def _line(check: dict[str, float]) -> str:
    """The line that is printed after a check."""
    parts = f", part AP {check['part_ap']:.3f}, AUROC {check['part_auroc']:.3f}" if check["part_ap"] else ""
    return (
        f"{check['minutes']:5.1f} min  step {check['step']:.0f}  loss {check['loss']:.3f}  "
        f"dev: cell mIoU {check['cell_miou']:.3f}, AP {check['cell_ap']:.3f}{parts}"
    )
