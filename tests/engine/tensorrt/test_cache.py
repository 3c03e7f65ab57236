"""The cache of plans, with real plans: TensorRT-RTX builds them without a GPU, in the real child process."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from inspectd.engine.backend import Gpu
from inspectd.engine.bundle import Bundle, load_bundle
from inspectd.engine.tensorrt.builder import Done, Request
from inspectd.engine.tensorrt.cache import Wanted, find_proven, proven_plan, run_builder
from inspectd.engine.tensorrt.plans import PlanKey, Proof, read_plan, write_plan, write_whole
from inspectd.runtime.errors import BundleError, StoppedError, UnavailableError
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.slots import Shape
from tests.bundles import darkness, write_bundle
from tests.engine.test_bundle import rehash

rtx = pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX, which `make venv` installs on x86-64")
SHIPPED = Path(__file__).parents[3] / "models/ballscrew"
SHAPE = Shape(64, 96, 3)
CARD = Gpu(63, "some card", "sm86", "13.0", "", 0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(write_bundle(tmp_path_factory.mktemp("b") / "toy"))


def wanted_in(folder: Path, bundle: Bundle, target: str = "sm86", shape: Shape = SHAPE) -> Wanted:
    key = PlanKey.of("TensorRT-RTX", rtx.__version__, bundle, "fp32", shape, target)
    return Wanted(key, folder / key.file_name, folder / f"{key.digest}-m.proven.json")


def build(wanted: Wanted, bundle: Bundle, timeout_s: float = 60, wake: Handoff[str] | None = None) -> Done:
    return run_builder(
        Request(str(bundle.path), wanted.key, str(wanted.path), None), wanted.title, timeout_s, wake
    )


@pytest.fixture
def wanted(tmp_path: Path, bundle: Bundle) -> Wanted:
    return wanted_in(tmp_path, bundle)


def test_a_plan_is_built_once_with_what_the_cpu_computes(wanted: Wanted, bundle: Bundle) -> None:
    first = build(wanted, bundle)
    plan = read_plan(wanted.path, wanted.key)
    assert first == Done(plan.sha256, built=True, difference=None)
    assert wanted.key.network_name.encode() in plan.plan
    assert abs(plan.scores.astype(int) - darkness(bundle.golden[0].image)).max() <= 1  # the picture is that image
    assert build(wanted, bundle) == Done(plan.sha256, built=False, difference=None)
    assert sorted(p.suffix for p in wanted.path.parent.iterdir()) == [".lock", ".plan"]


def test_a_plan_that_is_not_the_wanted_one_is_built_anew(wanted: Wanted, bundle: Bundle) -> None:
    build(wanted, bundle)
    whole, middle = wanted.path.read_bytes(), wanted.path.stat().st_size // 2
    other = wanted_in(wanted.path.parent, bundle, shape=Shape(64, 64, 3))
    build(other, bundle)
    harms = [whole[:middle], b"x" * 999, b"", other.path.read_bytes()]
    harms.append(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    for harm in harms:
        wanted.path.write_bytes(harm)
        with structlog.testing.capture_logs() as lines:
            assert find_proven(wanted, CARD) is None
        assert lines[0]["event"] == "a plan must be built" and lines[0]["reason"]
    assert build(wanted, bundle).built
    assert wanted.key.network_name.encode() in read_plan(wanted.path, wanted.key).plan


def in_background(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def builders() -> list[int]:
    """Child processes of this one that build."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"inspectd.engine.tensorrt.builder" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_a_builder_that_is_killed_is_one_sentence_and_the_next_one_builds(wanted: Wanted, bundle: Bundle) -> None:
    thread, outcome = in_background(lambda: build(wanted, bundle))
    until_s = time.monotonic() + 10
    while not builders() and time.monotonic() < until_s:
        time.sleep(0.01)
    os.kill(builders()[0], signal.SIGKILL)
    thread.join(20)
    (error,) = outcome
    assert isinstance(error, UnavailableError) and "was killed by SIGKILL" in str(error)
    assert not wanted.path.exists()
    left = wanted.path.with_suffix(".12345.part")
    left.write_bytes(b"half a plan")
    assert build(wanted, bundle).built
    assert not left.exists()


def test_a_builder_that_takes_too_long_is_ended(wanted: Wanted, bundle: Bundle) -> None:
    with pytest.raises(UnavailableError, match=r"is not built after 0.2 s; allow more \(build_timeout_s"):
        build(wanted, bundle, timeout_s=0.2)
    assert builders() == []


def test_a_wish_to_stop_ends_the_building(wanted: Wanted, bundle: Bundle) -> None:
    wake: Handoff[str] = Handoff()
    wake.put("SIGTERM")
    with pytest.raises(StoppedError):
        build(wanted, bundle, wake=wake)
    assert builders() == []
    assert list(wake.drain()) == ["SIGTERM"]  # who else waits for it still finds it


def test_of_two_that_want_the_same_plan_one_builds(wanted: Wanted, bundle: Bundle) -> None:
    both = [in_background(lambda: build(wanted, bundle)) for _ in range(2)]
    for thread, _ in both:
        thread.join(60)
    done = [outcome[0] for _, outcome in both]
    assert sorted(one.built for one in done) == [False, True]
    assert done[0].plan_sha256 == done[1].plan_sha256 == read_plan(wanted.path, wanted.key).sha256


def test_a_folder_that_can_not_be_written_is_said(bundle: Bundle) -> None:
    """Not even root may write there."""
    with pytest.raises(UnavailableError, match=r"/sys/kernel: "):
        build(wanted_in(Path("/sys/kernel"), bundle), bundle)


def test_a_folder_that_holds_the_plan_need_not_be_writable(wanted: Wanted, bundle: Bundle) -> None:
    build(wanted, bundle)
    wanted.path.with_suffix(".lock").unlink()
    wanted.path.with_suffix(".lock").mkdir()  # can't be opened as a lock, like one in a read-only folder
    assert not build(wanted, bundle).built


def test_what_no_trying_again_cures_is_an_error_of_the_bundle(tmp_path: Path, bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"does not support compute capability sm90, only sm75.*openvino"):
        build(wanted_in(tmp_path, bundle, target="sm90"), bundle)
    folder = write_bundle(tmp_path / "broken")
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-150])
    rehash(folder)
    broken = load_bundle(folder)
    with pytest.raises(BundleError) as caught:
        build(wanted_in(tmp_path, broken), broken)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_proven_plan_needs_no_builder(wanted: Wanted, bundle: Bundle) -> None:
    sha256 = build(wanted, bundle).plan_sha256
    write_whole(wanted.proof, msgspec.json.encode(Proof(sha256, CARD.name, CARD.driver, 3)))
    plan, difference = proven_plan(wanted, bundle, CARD, 0.0, None)
    assert (plan.sha256, difference) == (sha256, 3)


@pytest.mark.parametrize(
    "of", [Proof("0" * 64, CARD.name, CARD.driver, 0), Proof("", "another card", "13.0", 0), None]
)
def test_a_plan_is_proven_again_by_a_child_when_plan_card_or_driver_changed(
    wanted: Wanted, bundle: Bundle, of: Proof | None
) -> None:
    """Here there is no GPU to prove it on: the child says so, and nothing is served."""
    sha256 = build(wanted, bundle).plan_sha256
    if of is not None:
        proof = of if of.plan_sha256 else msgspec.structs.replace(of, plan_sha256=sha256)
        write_whole(wanted.proof, msgspec.json.encode(proof))
    assert find_proven(wanted, CARD) is None
    with pytest.raises(UnavailableError, match="can't be had now"):
        proven_plan(wanted, bundle, CARD, 60, None)
    assert read_plan(wanted.path, wanted.key).sha256 == sha256  # it is still good for another try


def test_systemd_hears_of_the_building(
    wanted: Wanted, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        build(wanted, bundle)
        listener.setblocking(False)
        said = ""
        try:
            while True:
                said += listener.recv(4096).decode() + "\n"
        except BlockingIOError:
            pass
    assert "EXTEND_TIMEOUT_USEC=30000000" in said
    assert "STATUS=building a plan (TensorRT-RTX" in said


def test_the_shipped_model_in_every_precision(tmp_path: Path) -> None:
    bundle = load_bundle(SHIPPED)
    for precision in bundle.graphs:
        key = PlanKey.of("TensorRT-RTX", rtx.__version__, bundle, precision, Shape(384, 512, 3), "sm89")
        wanted = Wanted(key, tmp_path / key.file_name, tmp_path / "none")
        assert build(wanted, bundle).built
        plan = read_plan(wanted.path, key)
        assert plan.scores.shape == (1, 96, 128) and plan.scores.max() > 200  # the golden images show pitting
        write_plan(tmp_path / "again", plan)
        assert (tmp_path / "again").read_bytes() == wanted.path.read_bytes()
