"""Trains a peer as CSNet is trained.

`python -m inspectd_train.peers.fit DATASET --net unet16 --minutes 12 --out DIR`

`inspectd_train.train.train.train` does it all: same crops, augmentation, loss, schedule, checks on dev; only the
network differs. DIR gets the files that `inspectd_train.train.state` names and peer.json, no bundle.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from inspectd.runtime.errors import UserError
from inspectd_train.data.dataset import DataSet, open_data_set, stored_channels
from inspectd_train.peers.nets import ALL_THREADS, PEER, Name, build, name_of, size_of
from inspectd_train.train.fabric import open_fabric
from inspectd_train.train.progress import shown_progress
from inspectd_train.train.run import RunSettings, open_run
from inspectd_train.train.state import holds_run
from inspectd_train.train.train import train

say = Console(stderr=True)


def fit(data: DataSet, name: Name, out: Path, settings: RunSettings, threads: int, resume: bool) -> None:
    """Trains the network `name` into the folder `out`; UserError: another run there, and those of `train`."""
    if holds_run(out, out, resume) and name_of(out) != (name, threads):
        raise UserError(f"{out}: is a run of another --net or --threads; repeat its command")
    fabric = open_fabric(threads)
    torch.manual_seed(settings.seed)
    net = build(name, settings.channels, len(data.classes), settings.branches)
    run = open_run(data, out, settings, fabric)
    out.mkdir(parents=True, exist_ok=True)
    (out / PEER).write_text(json.dumps({"net": name, "threads": threads}) + "\n", "utf-8")
    with shown_progress(out, say) as report:
        train(run, net, net.stride, resume, report)


def main(
    data_set: Annotated[Path, typer.Argument(metavar="DATASET")],
    net: Annotated[Name, typer.Option()],
    minutes: Annotated[float, typer.Option(min=0.05, help="Wall clock to train for.")],
    out: Annotated[Path, typer.Option(help="New folder for the run.")],
    seed: int = 0,
    threads: Annotated[int, typer.Option(min=1)] = ALL_THREADS,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out, which was interrupted.")] = False,
    split_file: str = "split.json",
) -> None:
    """Train a network of the comparison."""
    try:
        data = open_data_set(data_set, split_file)
        settings = RunSettings(minutes=minutes, seed=seed, net=size_of(net), channels=stored_channels(data))
        fit(data, net, out, settings, threads, resume)
    except UserError as error:
        say.print(str(error), soft_wrap=True, markup=False, highlight=False)
        raise typer.Exit(error.exit_code) from None


if __name__ == "__main__":
    typer.run(main)
