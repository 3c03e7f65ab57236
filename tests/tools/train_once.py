"""A training run in a process of its own, which prints each step: DATASET OUT new|resume|poor (in memory)."""

import resource
import sys
from pathlib import Path

import torch

from tools import train as training
from tools.csnet import CSNet
from tools.dataset import open_data_set
from tools.fit import open_fabric
from tools.run import Settings, open_run
from tools.state import STATE, Progress
from tools.train import train


def tell(progress: Progress, share: float) -> None:
    print(progress.step, flush=True)


def main(data_set: str, out: str, start: str) -> None:
    training.SAVE_EVERY_S = 0.3  # type: ignore[misc]
    folder = Path(out)
    folder.mkdir(exist_ok=True)
    batch, crop_px = (48, 640) if start == "poor" else (2, 64)
    settings = Settings(epochs=1, batch=batch, crop_px=crop_px, channels=1, deterministic=True)
    run = open_run(open_data_set(Path(data_set)), folder, settings, open_fabric(1))
    if start == "poor":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 600 * 2**20,) * 2)
    torch.manual_seed(0)
    train(run, CSNet(1, 1), 4, start == "resume" and (folder / STATE).is_file(), tell)


if __name__ == "__main__":
    main(*sys.argv[1:])
