"""A bundle is trusted only if everything in it is what its manifest says."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspectd.engine.bundle import Golden, golden_difference, load_bundle
from inspectd.runtime.errors import BundleError
from tests.bundles import STRIDE, add_int8, darkness, write_bundle

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "toy", channels=1, classes=("spot", "scratch"))


def edit(folder: Path, change: Edit) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def rehash(folder: Path) -> None:
    """Make the manifest agree with the files, as someone who edits both would."""

    def change(manifest: dict[str, Any]) -> None:
        for graph in manifest["graphs"].values():
            graph["sha256"] = hashlib.sha256((folder / graph["file"]).read_bytes()).hexdigest()
        for golden in manifest["golden"]:
            for key in ("image", "scores"):
                golden[f"{key}_sha256"] = hashlib.sha256((folder / golden[key]).read_bytes()).hexdigest()

    edit(folder, change)


def sentence(folder: Path) -> str:
    """The one sentence of the one error."""
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    (said,) = caught.value.problems
    assert "\n" not in said
    assert said.startswith(str(folder))
    return said.removeprefix(str(folder))


def test_a_whole_bundle(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert bundle.path == folder
    assert bundle.manifest.classes == ["spot", "scratch"]
    assert bundle.graphs["fp32"] == (folder / "model.onnx").read_bytes()
    assert bundle.sha256 == hashlib.sha256(bundle.graphs["fp32"]).hexdigest()
    (golden,) = bundle.golden
    assert golden.image.shape == (64, 96, 1)
    assert np.array_equal(golden.scores, darkness(golden.image, 2))
    assert golden.peak.tolist() == golden.scores.max(axis=(1, 2)).tolist()


def test_what_else_a_manifest_says_is_for_people(folder: Path) -> None:
    before = load_bundle(folder).manifest
    edit(folder, lambda m: m.update(trained_on="a Tuesday", metrics={"auroc": 0.99}))
    assert load_bundle(folder).manifest == before


def test_a_missing_folder(tmp_path: Path) -> None:
    assert sentence(tmp_path / "none") == ": there is no such model bundle; check `model` in the recipe"
    (tmp_path / "file").touch()
    assert "no such model bundle" in sentence(tmp_path / "file")


def test_a_missing_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    said = "/manifest.json: can't be read (No such file or directory); is this a model bundle?"
    assert sentence(folder) == said


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema": 1}', b"PK\x03\x04", b"null"])
def test_a_manifest_that_is_garbage_or_foreign(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    said = sentence(folder)
    assert said.startswith("/manifest.json: ")
    assert said.endswith("export the bundle again")


def test_a_manifest_nested_too_deeply(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b'{"schema": ' + b"[" * 100_000)
    try:
        sentence(folder)
    except RecursionError:
        pytest.fail("RecursionError", pytrace=False)


@pytest.mark.parametrize("schema", [0, 2, "1", None, 99])
def test_a_manifest_of_another_schema(folder: Path, schema: object) -> None:
    edit(folder, lambda m: m.update(schema=schema))
    said = f"/manifest.json: has schema {schema}, this version reads 1; export the bundle again"
    assert sentence(folder) == said


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(classes=[]),
        lambda m: m.update(stride=0),
        lambda m: m.update(channels=2),
        lambda m: m.update(golden=[]),
        lambda m: m.update(max_score_difference=17),
        lambda m: m.update(graphs={}),
        lambda m: m["graphs"]["fp32"].update(sha256="00"),
        lambda m: m.pop("name"),
        lambda m: m["golden"][0].update(peak="high"),
        lambda m: m.update(mask_levels=[128]),
        lambda m: m.update(mask_levels=[0, 128]),
        lambda m: m.update(int8={"usable": True}),
    ],
)
def test_a_manifest_whose_values_make_no_sense(folder: Path, change: Edit) -> None:
    edit(folder, change)
    assert sentence(folder).startswith("/manifest.json: ")


@pytest.mark.parametrize("name", ["model.onnx", "golden/0.png", "golden/0.scores.png"])
def test_a_damaged_file(folder: Path, name: str) -> None:
    path = folder / name
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"", whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]):
        path.write_bytes(damaged)
        said = sentence(folder)
        assert said.startswith(f"/{name}: is not the file the manifest names (SHA-256 ")
        assert "copy or export the bundle again" in said
    path.unlink()
    assert sentence(folder) == f"/{name}: can't be read (No such file or directory); copy the bundle again"
    path.mkdir()
    assert sentence(folder).startswith(f"/{name}: can't be read (Is a directory)")


@pytest.mark.parametrize("name", ["../toy/model.onnx", "golden/../model.onnx", "/etc/passwd"])
def test_a_file_outside_the_bundle(folder: Path, name: str) -> None:
    edit(folder, lambda m: m["graphs"]["fp32"].update(file=name))
    assert sentence(folder) == f"/manifest.json: {name} lies outside the bundle"
    edit(folder, lambda m: m["graphs"]["fp32"].update(file="model.onnx"))
    edit(folder, lambda m: m["golden"][0].update(image=name))
    assert sentence(folder) == f"/manifest.json: {name} lies outside the bundle"


def test_a_file_name_with_a_zero_byte(folder: Path) -> None:
    edit(folder, lambda m: m["graphs"]["fp32"].update(file="model\0.onnx"))
    assert sentence(folder).startswith("/manifest.json: ")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(stride=2 * STRIDE),
        lambda m: m.update(classes=["spot"]),
        lambda m: m.update(channels=3),
    ],
)
def test_golden_scores_that_do_not_fit_the_manifest(folder: Path, change: Edit) -> None:
    edit(folder, change)
    assert sentence(folder) == "/golden/0.png: does not fit the manifest; export the bundle again"


@pytest.mark.parametrize("peak", [[256, 0], [-1, 0], [], [0], [0, 0, 0]])
def test_golden_peaks_that_do_not_fit_the_manifest(folder: Path, peak: list[int]) -> None:
    edit(folder, lambda m: m["golden"][0].update(peak=peak))
    assert sentence(folder).endswith("export the bundle again")


def test_a_golden_file_that_is_no_image(folder: Path) -> None:
    (folder / "golden/0.png").write_bytes(b"not a picture")
    rehash(folder)
    assert sentence(folder) == (
        ": golden image 0.png: is cut off or not what its name says; export the bundle again"
    )


def test_a_bundle_with_int8(folder: Path) -> None:
    bundle = load_bundle(add_int8(folder))
    assert bundle.int8_usable
    assert bundle.graphs["int8"] == (folder / "model.int8.onnx").read_bytes()
    assert not load_bundle(add_int8(folder, usable=False)).int8_usable
    edit(folder, lambda m: m.pop("int8"))
    assert not load_bundle(folder).int8_usable


def test_a_tampered_int8_graph_is_refused_whether_used_or_not(folder: Path) -> None:
    for usable in (True, False):
        path = add_int8(folder, usable=usable) / "model.int8.onnx"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        assert sentence(folder).startswith("/model.int8.onnx: is not the file the manifest names (SHA-256 ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["graphs"].pop("int8"), "calls INT8 usable, but names no int8 graph"),
        (lambda m: m["int8"].update(verdicts_equal=0.99), "calls INT8 usable, though too many verdicts differ"),
        (lambda m: m["int8"].update(max_score_difference=17), "is not a manifest ("),
    ],
)
def test_a_gate_that_contradicts_itself(folder: Path, change: Edit, said: str) -> None:
    edit(add_int8(folder), change)
    assert sentence(folder).startswith(f"/manifest.json: {said}")


def test_int8_may_be_off_in_one_cell_of_200_but_not_in_a_peak() -> None:
    scores, peak = np.zeros((1, 20, 20), np.uint8), np.array([200], np.uint8)
    golden = Golden("golden/0.png", np.zeros((80, 80, 1), np.uint8), scores, peak)
    flank = scores.copy()
    flank[0, 0, :1] = 90
    assert golden_difference(golden, flank, peak, "int8") == 0
    assert golden_difference(golden, flank, peak, "") == 90
    flank[0, 0, :3] = 90
    assert golden_difference(golden, flank, peak, "int8") == 90
    assert golden_difference(golden, scores, peak - 30, "int8") == 30
