"""A tiny real model for tests: the score of a class is what its colour lacks of white, averaged per 4x4 cell."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper

STRIDE = 4


def darkness_graph(channels: int, classes: int = 1) -> onnx.ModelProto:
    """scores[k] = 255 - mean of the cell over all channels, minus 64 for each further class."""
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f", "last"], ["grey"], keepdims=1),
        helper.make_node("Transpose", ["grey"], ["chw"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["chw"], ["mean"], kernel_shape=[4, 4], strides=[4, 4], ceil_mode=1, count_include_pad=0
        ),
        helper.make_node("Sub", ["white", "mean"], ["dark"]),
        helper.make_node("Round", ["dark"], ["whole"]),
        helper.make_node("Clip", ["whole", "low", "high"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["scores"], to=TensorProto.UINT8),
        helper.make_node("ReduceMax", ["clipped", "map"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["peak"], to=TensorProto.UINT8),
    ]
    white = np.array([255 - 64 * k for k in range(classes)], np.float32).reshape(1, classes, 1, 1)
    constants = {
        "last": np.array([3], np.int64),
        "map": np.array([2, 3], np.int64),
        "white": white,
        "low": np.array(0, np.float32),
        "high": np.array(255, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "darkness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "H", "W", channels])],
        [
            helper.make_tensor_value_info("scores", TensorProto.UINT8, [1, classes, "h", "w"]),
            helper.make_tensor_value_info("peak", TensorProto.UINT8, [1, classes]),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def darkness(image: np.ndarray, classes: int = 1) -> np.ndarray:
    """What the graph computes, in numpy: uint8 [K, h, w]."""
    height, width = image.shape[:2]
    cells = np.empty((-(-height // STRIDE), -(-width // STRIDE)))
    for y in range(cells.shape[0]):
        for x in range(cells.shape[1]):
            cells[y, x] = image[y * STRIDE : (y + 1) * STRIDE, x * STRIDE : (x + 1) * STRIDE].mean()
    return np.stack([np.clip(np.rint(255 - 64 * k - cells), 0, 255) for k in range(classes)]).astype(np.uint8)


def spotted(height: int, width: int, channels: int, spots: list[tuple[int, int, int, int]]) -> np.ndarray:
    """A light part with black rectangles x, y, w, h."""
    image = np.full((height, width, channels), 230, np.uint8)
    image[::16] = 220  # a little texture
    for x, y, w, h in spots:
        image[y : y + h, x : x + w] = 5
    return image


def write_bundle(folder: Path, channels: int = 3, classes: tuple[str, ...] = ("spot",)) -> Path:
    """A complete bundle of the darkness model with one golden image and a recipe."""
    (folder / "golden").mkdir(parents=True)
    onnx.save(darkness_graph(channels, len(classes)), str(folder / "model.onnx"))
    image = spotted(64, 96, channels, [(20, 20, 16, 12)])
    scores = darkness(image, len(classes))
    cv2.imwrite(str(folder / "golden/0.png"), image[:, :, ::-1] if channels == 3 else image)
    cv2.imwrite(str(folder / "golden/0.scores.png"), scores.reshape(-1, scores.shape[2]))

    def sha(name: str) -> str:
        return hashlib.sha256((folder / name).read_bytes()).hexdigest()

    manifest = {
        "schema": 1,
        "name": folder.name,
        "classes": list(classes),
        "channels": channels,
        "stride": STRIDE,
        "graphs": {"fp32": {"file": "model.onnx", "sha256": sha("model.onnx")}},
        "golden": [
            {
                "image": "golden/0.png",
                "image_sha256": sha("golden/0.png"),
                "scores": "golden/0.scores.png",
                "scores_sha256": sha("golden/0.scores.png"),
                "peak": scores.max(axis=(1, 2)).tolist(),
            }
        ],
        "max_score_difference": 4,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    limits = "".join(f"[limits.{name}]\nsuspect = 0.4\nreject = 0.6\nmin_area_px = 16\n" for name in classes)
    (folder / "recipe.toml").write_text(f'model = "."\ndeadline_ms = 2000\n{limits}')
    return folder


def add_int8(folder: Path, off: int = 7, usable: bool = True, max_score_difference: int = 8) -> Path:
    """Gives a written bundle a gate and an int8 graph whose scores lie `off` below, so that it can be told."""
    manifest = json.loads((folder / "manifest.json").read_text())
    model = darkness_graph(manifest["channels"], len(manifest["classes"]))
    (white,) = [constant for constant in model.graph.initializer if constant.name == "white"]
    white.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(white) - np.float32(off), "white"))
    (folder / "model.int8.onnx").write_bytes(model.SerializeToString())
    sha256 = hashlib.sha256((folder / "model.int8.onnx").read_bytes()).hexdigest()
    manifest["graphs"]["int8"] = {"file": "model.int8.onnx", "sha256": sha256}
    manifest["int8"] = {
        "usable": usable,
        "max_score_difference": max_score_difference,
        "verdicts_equal": 1.0,
        "verdicts_bound": 0.995,
        "reason": "" if usable else "it differs",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
