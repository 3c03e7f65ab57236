"""Saves and loads what a run leaves on the disk, so that a killed one goes on: safetensors, never a pickle.

state.safetensors    net, average, optimiser; its header: step, elapsed time, checks, hard places, settings
best.safetensors     the averaged network that was best on dev, unfused
run.json             settings and every check, for people and for the report
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from inspectd.runtime.errors import UserError
from inspectd_train.files import replace
from inspectd_train.train.sampler import Place

STATE, BEST, RECORD = "state.safetensors", "best.safetensors", "run.json"
TRAINING = "training"
"""The folder within a bundle that holds the run it came from."""
Check = dict[str, float]


@dataclass
class RunProgress:
    """How far a run has come: all that a resumed run needs besides the tensors."""

    step: int = 0
    elapsed_s: float = 0.0
    loss: float = 1.0
    """The running mean of the loss."""
    checks: list[Check] = field(default_factory=list)
    checked: int = 0
    """The parts of dev that a check looks at; 0: not known yet."""
    hard: list[Place] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    """Pairs of step and running mean of the loss, about a hundred of them, for the curve."""


def holds_run(folder: Path, out: Path, resume: bool) -> bool:
    """Whether the state of a run lies in `folder`; UserError where `resume` is not what that asks for.

    `out` is the folder that the user named, `folder` the one within it that a run writes to.
    """
    running = (folder / STATE).is_file()
    if resume and not running:
        raise UserError(f"{folder / STATE}: no such file, nothing to resume; leave --resume out")
    if running and not resume:
        raise UserError(f"{out}: holds a run already; go on with --resume, or choose another --out")
    return running


def save_state(
    folder: Path,
    net: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    progress: RunProgress,
    run_id: str,
) -> None:
    """Replaces the state file in one step; a later call with the same `run_id` may go on from it."""
    tensors = {f"net.{k}": v for k, v in net.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for number, of_one in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{k}": v for k, v in of_one.items()}
    header = {"progress": json.dumps(vars(progress)), "run": run_id}
    _replace(folder / STATE, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, header))


def load_state(
    folder: Path, net: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer, run_id: str
) -> RunProgress:
    """Puts back what `save_state` wrote; UserError when it is of another run or damaged."""
    file = folder / STATE
    try:
        with safetensors.safe_open(str(file), framework="pt") as opened:
            header = opened.metadata() or {}
        tensors = load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{file}: can't be read ({error}); delete the folder {folder} and train anew") from None
    if header.get("run") != run_id:
        raise UserError(
            f"{file}: is of a run with other data or settings; repeat its command, or choose another --out"
        )
    net.load_state_dict(_under("net.", tensors))
    average.load_state_dict(_under("average.", tensors))
    of_each: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under("optimiser.", tensors).items():
        number, key = name.split(".", 1)
        of_each.setdefault(int(number), {})[key] = tensor
    whole: dict[str, Any] = optimiser.state_dict()
    optimiser.load_state_dict(whole | {"state": of_each})
    return RunProgress(**json.loads(header["progress"]))


def save_weights(file: Path, net: nn.Module) -> None:
    """Replaces a file of weights in one step."""
    _replace(file, save({k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}))


def save_record(folder: Path, record: dict[str, Any]) -> None:
    """Replaces run.json in one step."""
    _replace(folder / RECORD, (json.dumps(record, indent=1) + "\n").encode())


def load_weights(file: Path) -> dict[str, Tensor]:
    """Reads weights by name; UserError when the file isn't safetensors."""
    try:
        return load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(
            f"{file}: can't be read ({error}); give the folder that `inspectd-train fit` wrote"
        ) from None


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _replace(file: Path, content: bytes) -> None:
    """Replaces a file in one step; UserError (a full disk) leaves the old one."""
    try:
        replace(file, content)
    except OSError as error:
        raise UserError(
            f"{file}: can't be written ({error.strerror or error}); the last whole state is kept"
        ) from None
