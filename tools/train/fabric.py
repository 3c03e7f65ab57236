"""Opens what a network is trained on: a GPU where there is one, else the CPU; several under torchrun."""

from __future__ import annotations

import logging
import os
from typing import Any

import cv2
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch.distributed import is_torchelastic_launched

from inspectd_train.train.checks import bf16_is_fast


def open_fabric(threads: int) -> Fabric:
    """Opens one process on the CPU or the GPU; under torchrun as many as it started."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its hints are for programmers
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it CUDA's results differ from run to run
    cuda = torch.cuda.is_available()
    half = bf16_is_fast(torch.device("cuda" if cuda else "cpu"))
    precision: Any = "bf16-mixed" if half else "16-mixed" if cuda else "32-true"
    torchrun = is_torchelastic_launched()
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=int(os.environ["WORLD_SIZE"]) if torchrun else 1,
        precision=precision,
        # else it would ask SLURM, which counts the tasks around us, and MPI, which may end the process
        plugins=None if torchrun else LightningEnvironment(),
    )
    fabric.launch()
    return fabric
