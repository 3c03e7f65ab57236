"""Turns a training run into a bundle: one ONNX graph from the camera's bytes to scores, with its proofs.

    image  uint8 [1, H, W, C]   exactly the bytes of the daemon's slot, RGB; H and W symbolic
    scores uint8 [1, K, h, w]   255 x probability of each defect class; h, w = ceil(H/4), ceil(W/4)
    peak   uint8 [1, K]         the highest score of each class

A uint8 tensor meets only Cast, because TensorRT knows no other operator for it, so `peak` is reduced in
float. Clip(0, 255) stands right before each last Cast: ONNX Runtime and OpenVINO wrap 256 to 0.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import inspectd
from inspectd.engine.bundle import load_bundle
from inspectd.engine.openvino import open_segmenter
from inspectd.errors import UserError
from inspectd.images import write_png
from tools.csnet import RECEPTIVE_FIELD_PX, STRIDE_PX, CSNet, fuse, gmac_per_mpixel, normalise, parameters
from tools.dataset import DataSet, Sample, defect_centres, load

OPSET = 17
MAX_SCORE_DIFFERENCE = 4
GOLDEN_SIZES_PX = ((256, 192), (251, 187), (256, 192))

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Parity:
    """Largest score differences on the golden images, in 1/255: ONNX Runtime fp32 against others."""

    torch_fp32: int
    openvino: int


class Deployed(nn.Module):
    """The whole graph around a fused network; see the module."""

    def __init__(self, net: CSNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Image uint8 [1, H, W, C] to scores uint8 [1, K, h, w] and peak uint8 [1, K]."""
        logits = self.net(normalise(image.float().permute(0, 3, 1, 2)))
        scores = torch.round(255 * logits.softmax(1)[:, 1:])
        peak = scores.amax((2, 3))
        return scores.clamp(0, 255).to(torch.uint8), peak.clamp(0, 255).to(torch.uint8)


def export(run: Path, data: DataSet, bundle: Path) -> Parity:
    """Writes model.onnx, golden/ and manifest.json of `bundle` out of `run`; returns the measured parity.

    UserError when the run isn't whole, or another runtime's scores differ by more than the bundle allows.
    """
    net, record = load_run(run)
    (bundle / "golden").mkdir(parents=True, exist_ok=True)
    write_graph(net, bundle / "model.onnx")
    score = reference(bundle / "model.onnx")
    images = _golden_images(load(data, "dev"), len(record["classes"]))
    golden, torch_difference = [], 0
    for number, image in enumerate(images):
        scores, peak = score(image)
        golden.append(_write_golden(bundle, number, image, scores, peak))
        torch_difference = max(torch_difference, difference(scores, torch_scores(net, image)))
    manifest = _manifest(bundle, net, record, golden)
    (bundle / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    if torch_difference > 1:
        raise UserError(
            f"{bundle / 'model.onnx'}: scores differ from torch's by {torch_difference}/255; do not use it"
        )
    return Parity(torch_difference, open_segmenter(load_bundle(bundle), threads=1).golden_difference)


def load_run(run: Path) -> tuple[CSNet, dict[str, Any]]:
    """The fused network of a training run and the run's record; UserError when a file is missing or alien.

    The weights are rounded to bfloat16: engines that compute in it round them anyway, and so the fp32
    reference differs from them by the rounding of activations only (about half the difference).
    """
    for name in ("run.json", "weights.pt"):
        if not (run / name).is_file():
            raise UserError(f"{run / name}: no such file; give the folder that `inspectd-train train` wrote")
    record = json.loads((run / "run.json").read_text("utf-8"))
    net = fuse(CSNet(channels=3, classes=len(record["classes"])))
    try:
        net.load_state_dict(torch.load(run / "weights.pt", weights_only=True))
    except RuntimeError:
        raise UserError(f"{run / 'weights.pt'}: not of this version's network; train again") from None
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.bfloat16().float()
    return net.eval(), record


def write_graph(net: CSNet, file: Path) -> None:
    """Writes the fused `net` with all that belongs around it as ONNX, checked by onnx.checker."""
    channels = net.stem.dense.in_channels
    example = torch.zeros(1, 96, 64, int(channels), dtype=torch.uint8)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter announces its retirement at every call
        torch.onnx.export(
            Deployed(net).eval(),
            (example,),
            str(file),
            input_names=["image"],
            output_names=["scores", "peak"],
            dynamic_axes={"image": {1: "H", 2: "W"}, "scores": {2: "h", 3: "w"}},
            opset_version=OPSET,
            dynamo=False,
        )
    onnx.checker.check_model(onnx.load(str(file)), full_check=True)


def reference(file: Path) -> Callable[[Image], tuple[Image, Image]]:
    """ONNX Runtime in fp32 on one thread: image uint8 [H, W, C] to scores uint8 [K, h, w] and peak uint8 [K]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def score(image: Image) -> tuple[Image, Image]:
        scores, peak = session.run(["scores", "peak"], {"image": image[None]})
        return np.asarray(scores)[0], np.asarray(peak)[0]

    return score


def torch_scores(net: CSNet, image: Image) -> Image:
    """Scores uint8 [K, h, w] of an image uint8 [H, W, C] by torch in fp32."""
    with torch.no_grad():
        scores, _ = Deployed(net).eval()(torch.from_numpy(image)[None])
    return np.asarray(scores[0].numpy())


def difference(a: Image, b: Image) -> int:
    """Largest difference of two score maps, in 1/255."""
    return int(np.abs(a.astype(np.int16) - b).max())


def _golden_images(samples: list[Sample], classes: int) -> list[Image]:
    """Crops of dev pictures around three defects, chosen with a fixed seed; one has an odd size."""
    rng = np.random.default_rng(0)
    places = [place for of_class in defect_centres(samples, classes) for place in of_class]
    images = []
    for (width, height), pick in zip(GOLDEN_SIZES_PX, rng.permutation(len(places)), strict=False):
        index, x, y = places[pick]
        rows, columns = samples[index].mask.shape
        left, top = (
            min(max(int(at - side / 2), 0), most - side)
            for at, side, most in ((x, width, columns), (y, height, rows))
        )
        images.append(np.ascontiguousarray(samples[index].image[top : top + height, left : left + width]))
    return images


def _write_golden(bundle: Path, number: int, image: Image, scores: Image, peak: Image) -> dict[str, Any]:
    """Writes an image and its scores, the classes' maps one below the other; returns the manifest's entry."""
    names = {"image": f"golden/{number}.png", "scores": f"golden/{number}.scores.png"}
    write_png(bundle / names["image"], image)
    write_png(bundle / names["scores"], scores.reshape(-1, scores.shape[2]))
    hashes = {f"{key}_sha256": _sha256(bundle / name) for key, name in names.items()}
    return names | hashes | {"peak": peak.tolist()}


def _manifest(bundle: Path, net: CSNet, record: dict[str, Any], golden: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of manifest.json."""
    trained = {key: record[key] for key in ("data", "data_sha256", "split", "settings")}
    best = record["checks"][record["best_check"]]
    return {
        "schema": 1,
        "name": bundle.resolve().name,
        "classes": record["classes"],
        "channels": 3,
        "stride": STRIDE_PX,
        "graphs": {"fp32": {"file": "model.onnx", "sha256": _sha256(bundle / "model.onnx")}},
        "golden": golden,
        "max_score_difference": MAX_SCORE_DIFFERENCE,
        "network": {
            "family": "CSNet-S",
            "parameters": parameters(net),
            "gmac_per_mpixel": round(gmac_per_mpixel(net), 3),
            "receptive_field_px": RECEPTIVE_FIELD_PX,
        },
        "trained": trained | {"code": inspectd.__version__, "dev": best},
    }


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
