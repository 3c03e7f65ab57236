"""Real plans on a real GPU: built, proven, run, in every precision of the shipped bundle."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from inspectd.engine.bundle import golden_difference, load_bundle
from inspectd.runtime.ring import create
from inspectd.runtime.slots import Shape
from inspectd.settings.engine import TensorRtEngine

pytestmark = [pytest.mark.gpu, pytest.mark.alone, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "models/ballscrew"


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


def test_the_golden_images_in_their_own_sizes(tensorrt: Any, plans: Path, shown: Any) -> None:
    from inspectd.engine.tensorrt.start import GpuSegmenter

    bundle = load_bundle(SHIPPED)
    segmenter = GpuSegmenter(TensorRtEngine(plans=str(plans)), bundle)
    for golden in bundle.golden:
        difference = golden_difference(golden, *segmenter.segment(golden.image), "fp16")
        shown(f"{golden.name}: {difference}/255 from the fp32 reference")
        assert difference <= bundle.allowed_difference("fp16")
    segmenter.close()


@pytest.mark.parametrize("shape", [Shape(384, 512, 3), Shape(2048, 2448, 3)])
def test_a_second_start_builds_nothing(tensorrt: Any, plans: Path, shape: Shape) -> None:
    from inspectd.engine.tensorrt.start import open_gpu

    bundle, ring = load_bundle(SHIPPED), create(2, shape, "test")
    said = []
    for _ in range(2):
        with structlog.testing.capture_logs() as lines:
            backend = open_gpu(TensorRtEngine(plans=str(plans)), bundle, [ring])
        said.append([line["event"] for line in lines])
        assert all(buffers.graph is not None for buffers in backend._all)  # TensorRT's work was captured
        backend.close()
    assert "plan ready" in said[0] and "plan ready" not in said[1]
    os.close(ring.fd)


def test_the_doctor_finds_nothing_that_fails(tensorrt: Any, shown: Any) -> None:
    command = [sys.executable, "-m", "inspectd", "doctor", "gpu", "--json", "-c", str(ROOT / "config.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    rows = [msgspec.json.decode(row) for row in done.stdout.splitlines()]
    for row in rows:
        shown(f"{row['check']}: {row['found']}  ({row['status']}: {row['wanted']})")
    assert done.returncode == 0, done.stderr
    assert all(row["status"] != "fail" for row in rows)
