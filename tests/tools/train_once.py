"""A training run in a process of its own, which prints each step: DATASET OUT new|resume|poor (in memory)."""

import resource
import sys
from pathlib import Path

import torch

from inspectd_train.cli.fit import open_fabric
from inspectd_train.data.dataset import open_data_set
from inspectd_train.net.csnet import CSNet
from inspectd_train.train import train as training
from inspectd_train.train.run import RunSettings, open_run
from inspectd_train.train.state import STATE, RunProgress
from inspectd_train.train.train import train


def tell(progress: RunProgress, share: float) -> None:
    print(progress.step, flush=True)


def main(data_set: str, out: str, start: str) -> None:
    training.SAVE_EVERY_S = 0.3  # type: ignore[misc]
    folder = Path(out)
    folder.mkdir(exist_ok=True)
    batch, crop_px = (48, 640) if start == "poor" else (2, 64)
    settings = RunSettings(epochs=1, batch=batch, crop_px=crop_px, channels=1, deterministic=True)
    run = open_run(open_data_set(Path(data_set)), folder, settings, open_fabric(1))
    if start == "poor":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 600 * 2**20,) * 2)
    torch.manual_seed(0)
    train(run, CSNet(1, 1), 4, start == "resume" and (folder / STATE).is_file(), tell)


if __name__ == "__main__":
    main(*sys.argv[1:])
