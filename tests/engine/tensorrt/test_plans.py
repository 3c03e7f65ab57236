"""Plan files: only the wanted one, byte for byte, is ever given to TensorRT."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.engine.backend import Gpu
from inspectd.engine.bundle import load_bundle
from inspectd.engine.tensorrt.plans import (
    HASH_BYTES,
    LENGTH,
    MAGIC,
    PlanFile,
    PlanFileError,
    PlanKey,
    Proof,
    machine_digest,
    plan_folder,
    proof_of,
    proof_picture,
    read_plan,
    read_proof,
    shows_defects,
    write_plan,
    write_whole,
)
from inspectd.runtime.errors import UnavailableError
from inspectd.runtime.slots import Shape
from tests.bundles import write_bundle
from tests.makers import disk_for, examples

KEY = PlanKey("TensorRT-RTX 1.7.1.116", "a" * 64, "fp16", (64, 96, 3), "sm86", "c" * 64)
SHIPPED = Path(__file__).parents[3] / "models/ballscrew"
PLAN = PlanFile(KEY, bytes(range(256)) * 9, np.arange(2 * 16 * 24, dtype=np.uint8).reshape(2, 16, 24))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / KEY.file_name


def refusal(path: Path, key: PlanKey = KEY) -> str:
    with pytest.raises(PlanFileError) as caught:
        read_plan(path, key)
    return str(caught.value)


@examples(30)
@given(st.binary(min_size=1, max_size=3000), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
def test_what_is_written_is_read(tmp_path: Path, data: bytes, classes: int, height: int, width: int) -> None:
    scores = np.random.default_rng(height).integers(0, 256, (classes, height, width), np.uint8)
    write_plan(tmp_path / "p", PlanFile(KEY, data, scores))
    found = read_plan(tmp_path / "p", KEY)
    assert (found.key, found.plan) == (KEY, data)
    assert np.array_equal(found.scores, scores)
    assert found.sha256 == hashlib.sha256(data).hexdigest()


@examples(150)
@given(st.data())
def test_any_changed_byte_and_any_other_length_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "p"
    write_plan(path, PLAN)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "add"]))
    if change == "flip":
        path.write_bytes(whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :])
    else:
        path.write_bytes(whole[:at] if change == "cut" else whole + whole[at:])
    assert refusal(path)


@pytest.mark.parametrize(
    "change",
    [
        {"library": "TensorRT 10.3.0"}, {"graph_sha256": "b" * 64}, {"precision": "int8"}, {"shape": (64, 97, 3)},
        {"target": "sm89"}, {"reference": "d" * 64}, {"gpu": "NVIDIA L4, driver for CUDA 13"}, {"schema": 99},
    ],
)  # fmt: skip
def test_a_plan_for_anything_else_is_refused(path: Path, change: dict[str, Any]) -> None:
    write_plan(path, PLAN)
    other = msgspec.structs.replace(KEY, **change)
    assert other.digest != KEY.digest
    assert refusal(path, other) == "it is for another graph, GPU, driver, TensorRT or picture"


def test_the_key_is_made_of_the_bundle(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "toy"))
    key = PlanKey.of("TensorRT", "10.3.0", bundle, "fp32", Shape(64, 96, 3), "sm86", "card")
    sha256 = bundle.manifest.graphs["fp32"].sha256
    assert key == PlanKey("TensorRT 10.3.0", sha256, "fp32", (64, 96, 3), "sm86", key.reference, "card")
    assert key.network_name == f"sha256:{sha256}"
    assert len(key.digest) == 20 and key.file_name == f"{key.digest}.plan"


def sealed(content: bytes) -> bytes:
    """With the hash that fits: what someone would write who wants to be believed."""
    return content + hashlib.sha256(content).digest()


def header(**change: Any) -> bytes:
    wanted = {"key": msgspec.to_builtins(KEY), "plan_bytes": 3, "scores_bytes": 4, "classes": 1}
    text = msgspec.json.encode(wanted | change)
    return MAGIC + LENGTH.pack(len(text)) + text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no plan file"),
        (b"INSPLAN1", "no plan file"),
        (b"ftrt" * 100, "no plan file"),
        (MAGIC + bytes(100), "damaged"),
        (sealed(MAGIC + LENGTH.pack(2**32 - 1) + b"{}"), "header"),
        (sealed(MAGIC + LENGTH.pack(2) + b"{}"), "header"),
        (sealed(MAGIC + LENGTH.pack(200_000) + b"[" * 200_000), "header"),
        (sealed(header(plan_bytes=0) + b"abcdefg"), "header"),
        (sealed(header(plan_bytes=-1) + b"abcdefg"), "header"),
        (sealed(header(extra=1) + b"abcdefg"), "header"),
        (sealed(header(plan_bytes=900) + b"abcdefg"), "add up"),
        (sealed(header() + b"abcdefgh"), "add up"),
        (sealed(header() + b"abcdefg"), "scores"),
    ],
)
def test_a_file_that_is_no_plan_is_refused_with_the_reason(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    assert reason in refusal(path)


def test_scores_of_another_number_of_classes_are_refused(path: Path) -> None:
    write_plan(path, PlanFile(KEY, b"plan", np.zeros((1, 3, 4), np.uint8)))
    content = path.read_bytes()[:-HASH_BYTES].replace(b'"classes":1', b'"classes":2')
    path.write_bytes(sealed(content))
    assert "scores" in refusal(path)


def test_no_file_and_no_readable_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none") == "there is none"
    assert "can't be read" in refusal(tmp_path)


def test_a_full_disk_leaves_the_old_plan_and_no_rubbish(path: Path) -> None:
    write_plan(path, PLAN)
    with disk_for(100), pytest.raises(OSError):
        write_plan(path, PLAN._replace(plan=b"new" * 1000))
    assert read_plan(path, KEY).plan == PLAN.plan
    assert list(path.parent.iterdir()) == [path]


def test_a_proof_that_can_not_be_read_is_none(tmp_path: Path) -> None:
    path, proof = tmp_path / "p.json", Proof("a" * 64, "card", "13.0", 3)
    assert read_proof(path) is None
    write_whole(path, msgspec.json.encode(proof))
    assert read_proof(path) == proof
    for rubbish in (b"", b"{}", b"\xff\xfe", b"[" * 100_000):
        path.write_bytes(rubbish)
        assert read_proof(path) is None


SIZES = [Shape(64, 64, 3), Shape(130, 200, 3), Shape(70, 333, 3), Shape(384, 512, 3), Shape(700, 70, 3)]


@pytest.mark.parametrize("shape", SIZES)
def test_the_proof_picture_of_any_size_shows_the_defects_of_the_shipped_model(shape: Shape) -> None:
    """Else a GPU that sees nothing would pass: each band is part of a golden image, around its strongest cell."""
    from inspectd.engine.openvino import Segmenter

    bundle = load_bundle(SHIPPED)
    picture = proof_picture(bundle, shape)
    assert picture.shape == shape and picture.dtype == np.uint8
    scores, _ = Segmenter(bundle, 1, "f32").segment(picture)
    assert shows_defects(bundle, scores)
    assert not shows_defects(bundle, np.zeros_like(scores))


def test_a_high_picture_shows_every_golden_image_a_low_one_the_strongest(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "toy"))
    weak = bundle.golden[0]._replace(image=np.full((64, 96, 3), 99, np.uint8), scores=bundle.golden[0].scores // 2)
    bundle = bundle._replace(golden=(weak, *bundle.golden))
    high, low = (proof_picture(bundle, Shape(height, 96, 3)) for height in (256, 255))
    assert np.array_equal(high[:64], bundle.golden[1].image) and (high[128:] == 99).all()
    assert np.array_equal(low[:64], bundle.golden[1].image) and not (low[128:] == 99).all()


def test_the_proof_has_the_cpus_scores_and_their_peaks(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "toy"))
    golden = proof_of(bundle, PLAN)
    assert golden.image.shape == (64, 96, 3)
    assert golden.peak.tolist() == PLAN.scores.max(axis=(1, 2)).tolist()


def test_a_folder_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    assert plan_folder(tmp_path / "a/b") == tmp_path / "a/b"
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="folder for plans can't be made"):
        plan_folder(tmp_path / "file/x")
    (tmp_path / "a/b").chmod(0o777)
    with pytest.raises(UnavailableError, match="everybody may write"):
        plan_folder(tmp_path / "a/b")


def test_names_differ_by_card_and_driver() -> None:
    card = Gpu(0, "a", "sm86", "580.1", "", 0)
    others = card._replace(name="b"), card._replace(driver="580.2"), card._replace(number=1)
    assert len({machine_digest(one) for one in (card, *others)}) == 3  # which of two equal cards does not matter
