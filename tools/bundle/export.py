"""Turns a trained network into a bundle: three graphs, golden images, and the manifest that describes them.

Everything is made and proven in a folder within the bundle's, then renamed to its place. A folder without
manifest.json is no bundle, so the old manifest goes first and the new one comes last: whatever ends the export
leaves the old bundle, none, or the new one, never a mixture.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import safetensors.torch
import torch
from numpy.typing import NDArray

import inspectd
from inspectd.engine.bundle import load_bundle
from inspectd.runtime.errors import UserError
from inspectd.runtime.image_files import write_png
from inspectd_train.bundle.cuts import calibration_cuts, golden_images
from inspectd_train.bundle.quantise import Deployed, as_bfloat16, float_graph, int8_graph
from inspectd_train.data.dataset import Sample
from inspectd_train.files import replace, write_through
from inspectd_train.net.csnet import CSNet, fuse, gmac_per_mpixel, parameters, receptive_field_px

MAX_SCORE_DIFFERENCE = 8
"""What float graphs may be off on the golden images, in 1/255: bfloat16 was seen 6 off, another net 200."""
FILES = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"
UNFINISHED = ".export-"

Image = NDArray[np.uint8]
Score = Callable[[Image], tuple[Image, Image]]
"""A function from an image uint8 [H, W, C] to scores uint8 [K, h, w] and peak uint8 [K]."""
Manifest = dict[str, Any]


def write_bundle(
    net: CSNet,
    classes: tuple[str, ...],
    pictures: list[Sample],
    dev: list[Sample],
    out: Path,
    trained: dict[str, object],
    mask_levels: list[int] | None = None,
) -> None:
    """Writes graphs, golden images and manifest of `net` (as trained, unfused) into the folder `out`.

    INT8's ranges are measured on `pictures` of the training split, golden images are cut out of those of `dev`.
    `trained` describes data, settings and result to people. What else lies in `out` (recipe, report) stays. INT8
    is not usable until `inspectd_train.bundle.parity` has found it equal. UserError: nothing to cut from, a graph
    that doesn't compute what the net does, a disk that is full.
    """
    if not dev:
        raise UserError(f"{out}: a bundle needs pictures of the dev split for its golden images; there is none")
    manifest = _about(net, out.resolve().name, classes, trained)
    if mask_levels is not None:
        manifest["mask_levels"] = mask_levels
    fused = fuse(net)
    try:
        graphs = _graphs(fused, calibration_cuts(pictures))
        golden = [(image, *onnx_score(graphs["fp32"])(image)) for image in golden_images(dev, len(classes))]
        _refuse_another_net(out, torch_score(as_bfloat16(fused)), golden)
        _write(out, graphs, golden, manifest, safetensors.torch.save(net.state_dict()))
    except OSError as error:
        raise UserError(
            f"{out}: the bundle can't be written ({error.strerror or error}); what was there before is kept"
        ) from None


def _about(net: CSNet, name: str, classes: tuple[str, ...], trained: dict[str, object]) -> Manifest:
    """What a manifest says of the network; its files come in when they are written."""
    return {
        "schema": 1,
        "name": name,
        "classes": list(classes),
        "channels": net.channels,
        "stride": net.stride,
        "max_score_difference": MAX_SCORE_DIFFERENCE,
        "network": {
            "family": f"CSNet-{net.net.upper()}",
            "parameters": parameters(net),
            "gmac_per_mpixel": round(gmac_per_mpixel(net), 3),
            "receptive_field_px": receptive_field_px(net),
        },
        "trained": trained | {"code": inspectd.__version__},
    }


def _graphs(fused: CSNet, pictures: list[Image]) -> dict[str, bytes]:
    """Makes the ONNX file of each precision."""
    return {
        "fp32": float_graph(as_bfloat16(fused)),
        "fp16": float_graph(fused, half=True),
        "int8": int8_graph(float_graph(fused), pictures),
    }


def _write(
    out: Path,
    graphs: dict[str, bytes],
    golden: list[tuple[Image, Image, Image]],
    manifest: Manifest,
    weights: bytes,
) -> None:
    """Writes all files of the bundle in a folder within, proves them, and moves them to their places; OSError."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=out) as folder:
        made = Path(folder)
        for precision, graph in graphs.items():
            write_through(made / FILES[precision], graph)
        (made / "golden").mkdir()
        entries = [_write_golden(made, number, *of_one) for number, of_one in enumerate(golden)]
        manifest = manifest | {"graphs": {p: _file(made / name) for p, name in FILES.items()}, "golden": entries}
        write_through(made / WEIGHTS, weights)
        manifest["weights"] = _file(made / WEIGHTS)
        write_manifest(made, manifest)
        load_bundle(made)
        move_in(made, out)


def move_in(made: Path, out: Path) -> None:
    """Moves all files of the new bundle `made` to their places in `out`, the manifest last; OSError."""
    (out / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(out / "golden", ignore_errors=True)
    files = [path.relative_to(made) for path in made.rglob("*") if path.is_file()]
    for name in sorted(files, key=lambda name: name == Path(MANIFEST)):
        (out / name).parent.mkdir(exist_ok=True)
        (made / name).replace(out / name)


def clear_away(out: Path) -> None:
    """Makes the bundle's folder, or removes what a killed export left in it."""
    out.mkdir(parents=True, exist_ok=True)
    for folder in out.glob(f"{UNFINISHED}*"):
        shutil.rmtree(folder, ignore_errors=True)


def write_manifest(bundle: Path, manifest: Manifest) -> None:
    """Replaces manifest.json in one step; OSError leaves the old one."""
    replace(bundle / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())


def onnx_score(graph: bytes, threads: int = 1) -> Score:
    """Scores by ONNX Runtime on the CPU; with the fp32 graph these are the reference of the golden scores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def score(image: Image) -> tuple[Image, Image]:
        scores, peak = session.run(["scores", "peak"], {"image": image[None]})
        return np.asarray(scores)[0], np.asarray(peak)[0]

    return score


def torch_score(fused: CSNet) -> Score:
    """Scores by the network itself, in fp32 torch."""
    deployed = Deployed(fused)

    def score(image: Image) -> tuple[Image, Image]:
        with torch.no_grad():
            scores, peak = deployed(torch.from_numpy(image)[None])
        return np.asarray(scores[0].numpy()), np.asarray(peak[0].numpy())

    return score


def difference(a: Image, b: Image) -> int:
    """The largest difference of two score maps, in 1/255."""
    return int(np.abs(a.astype(np.int16) - b).max())


def _refuse_another_net(out: Path, score: Score, golden: list[tuple[Image, Image, Image]]) -> None:
    """Raises UserError when the exported graph's golden scores are not those of the net."""
    worst = max(difference(score(image)[0], scores) for image, scores, _ in golden)
    if worst > 1:
        raise UserError(
            f"{out}: the exported graph's scores differ from the net's by {worst}/255; none was written"
        )


def _write_golden(folder: Path, number: int, image: Image, scores: Image, peak: Image) -> dict[str, Any]:
    """Writes an image and its scores, the classes' maps one below the other; returns the manifest's entry."""
    names = {"image": f"golden/{number}.png", "scores": f"golden/{number}.scores.png"}
    write_png(folder / names["image"], image)
    write_png(folder / names["scores"], scores.reshape(-1, scores.shape[2]))
    hashes = {f"{key}_sha256": _file(folder / name)["sha256"] for key, name in names.items()}
    return names | hashes | {"peak": peak.tolist()}


def _file(path: Path) -> dict[str, str]:
    """How the manifest names a file: name and SHA-256."""
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
