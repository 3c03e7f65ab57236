"""A daemon with the GPU engine, as a user would start it.

Real are TensorRT-RTX's plans, the child processes that build and prove them, and pycuda. The driver is the
stand-in, and the network that computes is the tests' own: TensorRT itself loads no plan without a GPU.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import pytest

from inspectd.runtime.frame import Reason, Verdict
from inspectd.subscribe import Event, Results, Silence
from tests.engine import standin
from tests.lines import Line, beats_of, collect, results_of, state_is, stop, to_the_end

pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX, which `make venv` installs on x86-64")


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the proven plan: what a first start leaves."""
    folder = tmp_path_factory.mktemp("first")
    line = Line(folder)
    on_the_gpu(line, folder / "plans")
    daemon = start(line, "--count", "4")
    assert daemon.wait(60) == 0, line.log
    line.close()
    for said in ("a plan must be built", "plan ready", "difference=0/255", "TensorRT-RTX", "stand-in, no GPU"):
        assert said in line.log
    assert sorted(path.suffix for path in (folder / "plans").iterdir()) == [".compiled", ".json", ".lock", ".plan"]
    return folder / "plans"


def on_the_gpu(line: Line, plans: Path, rate_hz: float = 50.0) -> None:
    line.write(f"acquisition_frame_rate_hz = {rate_hz}")
    engine = f'\n[engine]\nkind = "tensorrt"\nplans = "{plans}"\n'
    line.config.write_text(line.config.read_text() + engine)


def start(line: Line, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "inspectd", "run", "-c", str(line.config), *arguments]
    with (line.folder / "log").open("a") as log:
        return line.spawn(command, stdout=log, stderr=log, env=standin.environment(**environment))


def to_the_failure(subscriber: Results) -> list[Event]:
    """All that a daemon says whose GPU is lost: the last state is Error, not Halted."""
    silent = lambda events: bool(beats_of(events)) and isinstance(events[-1], Silence)  # noqa: E731
    return collect(subscriber, silent, 40)


def test_every_part_gets_its_verdict(line: Line, plans: Path) -> None:
    on_the_gpu(line, plans)
    with Results(line.endpoint) as subscriber:
        daemon = start(line)
        events = collect(subscriber, lambda events: len(results_of(events)) >= 40)
        assert stop(daemon) == 0, line.log
        events += to_the_end(subscriber)
    results = [received.result for received in results_of(events)]
    assert [r.part_id for r in results] == list(range(1, len(results) + 1))
    for result in results:  # image i is spotted if i is even
        assert result.verdict is (Verdict.PASS if result.part_id % 2 else Verdict.FAIL)
    assert "a plan must be" not in line.log and "Traceback" not in line.log


@pytest.mark.parametrize(
    "fault", ["cuGraphLaunch 100 719", "cuEventSynchronize 100 700", "cuMemcpyHtoDAsync_v2 90 999"]
)
@pytest.mark.alone
def test_a_lost_gpu_ends_every_frame_as_unknown_and_the_daemon_with_its_exit_code(
    line: Line, plans: Path, fault: str
) -> None:
    on_the_gpu(line, plans, 200.0)
    with Results(line.endpoint) as subscriber:
        daemon = start(line, STANDIN_FAIL=fault)
        events = to_the_failure(subscriber)
        assert daemon.wait(20) == 70, line.log
    results = sorted((received.result for received in results_of(events)), key=lambda r: r.part_id)
    assert [r.part_id for r in results] == list(range(1, len(results) + 1))  # none is missing
    unknown = [r for r in results if r.verdict is Verdict.UNKNOWN]
    assert unknown and {r.reason for r in unknown} <= {Reason.ENGINE, Reason.CAMERA}
    assert any(r.reason is Reason.ENGINE for r in unknown)
    first = next(r.part_id for r in unknown)
    assert all(r.verdict is Verdict.UNKNOWN for r in results if r.part_id > first)  # it stays lost
    assert all(
        r.verdict is (Verdict.PASS if r.part_id % 2 else Verdict.FAIL) for r in results if r.part_id < first
    )
    beats = beats_of(events)
    assert any(beat.state == "Error" for beat in beats)
    assert beats[-1].cameras["top"].books.balanced
    assert "CUDA_ERROR_" in line.log and "Traceback" not in line.log and "PyCUDA ERROR" not in line.log


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"STANDIN_DEVICES": "0"}, "finds no GPU (cuInit failed: no CUDA-capable device is detected)"),
        ({"STANDIN_MEMORY": "60000"}, "too little memory on the GPU: this line needs"),
        ({"STANDIN_FAIL": "cuMemHostAlloc 1 700"}, "CUDA_ERROR_ILLEGAL_ADDRESS in cuMemHostAlloc"),
    ],
)
def test_what_is_wrong_at_the_start_is_one_sentence(
    line: Line, plans: Path, environment: dict[str, str], said: str
) -> None:
    on_the_gpu(line, plans)
    daemon = start(line, **environment)
    assert daemon.wait(30) == (70 if "ILLEGAL" in said else 69)
    assert said in line.log and "Traceback" not in line.log and "PyCUDA ERROR" not in line.log
    assert line.log.splitlines()[-1].startswith("inspectd: ")


def test_without_a_driver_the_cpu_engine_is_named(line: Line, plans: Path) -> None:
    on_the_gpu(line, plans)
    standin.folder()  # pycuda is there
    env = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    command = [sys.executable, "-m", "inspectd", "run", "-c", str(line.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 69 and "Traceback" not in done.stderr
    assert 'kind = "openvino"' in done.stderr


def test_state_is_operational_again_after_a_restart(line: Line, plans: Path) -> None:
    """What systemd does: the numbers go on, nothing is lost in between."""
    on_the_gpu(line, plans, 200.0)
    with Results(line.endpoint) as subscriber:
        first = start(line, STANDIN_FAIL="cuGraphLaunch 60 719")
        events = to_the_failure(subscriber)
        assert first.wait(20) == 70
        second = start(line)
        events += collect(subscriber, lambda e: state_is("ContinuousExecution")(e) and bool(results_of(e)))
        assert stop(second) == 0
    numbers = [received.seq for received in results_of(events)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def command(line: Line, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Any command of ours, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "inspectd", *arguments, "-c", str(line.config)],
        capture_output=True, text=True, timeout=100, env=standin.environment(),
    )  # fmt: skip


def test_a_stop_while_a_plan_is_built_is_clean(line: Line) -> None:
    on_the_gpu(line, line.folder / "plans")
    daemon = start(line)
    until_s = time.monotonic() + 20
    while "a plan must be built" not in line.log:
        assert time.monotonic() < until_s
        time.sleep(0.02)
    assert stop(daemon) == 0
    assert "stopped while a plan was being built" in line.log and "Traceback" not in line.log
    assert not list((line.folder / "plans").glob("*.plan"))


def test_check_says_what_a_start_would_find(line: Line, plans: Path) -> None:
    on_the_gpu(line, plans)
    done = command(line, "check")
    assert done.returncode == 0, done.stderr
    assert "on stand-in, no GPU, fp32, plan for 160x128 proven within 0/255" in done.stdout


def test_replay_judges_on_the_gpu(line: Line, plans: Path) -> None:
    on_the_gpu(line, plans)
    done = command(line, "replay", str(line.images))
    assert done.returncode == 0 and "PASS 2, FAIL 2, UNKNOWN 0" in done.stderr, done.stderr


def test_bench_compares_with_the_bare_gpu(line: Line, plans: Path) -> None:
    """The figures mean nothing on the stand-in; that there are some, and that no result is missing, does."""
    on_the_gpu(line, plans)
    done = command(line, "bench", "--seconds", "1", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    rows = [msgspec.json.decode(row) for row in done.stdout.splitlines()]
    assert [row["precision"] for row in rows] == ["fp32", "fp32"]
    assert all(row["missing"] == 0 and row["received"] > 20 and row["bare_hz"] > 0 for row in rows)


def test_doctor_gpu_measures_everything_it_promises(line: Line, plans: Path) -> None:
    on_the_gpu(line, plans)
    done = command(line, "doctor", "gpu", "--json", "--idle", "0.3")
    assert done.returncode == 0, done.stderr + done.stdout
    figures = {row["check"]: row for row in map(msgspec.json.decode, done.stdout.splitlines())}
    wanted = [
        "GPU",
        "driver",
        "compute capability",
        "memory",
        "memory free",
        "PCIe link",
        "TensorRT",
        "ring / pinned",
    ]
    wanted += [f"copy to the GPU, {name}" for name in ("pageable", "pinned", "ring")]
    steps = [
        "plan built and proven",
        "plan opened as by a start",
        "plan loaded",
        "first inference",
        "differs from the CPU",
        "copy in alone",
    ]
    steps += ["compute alone", "copy out alone", "latency, median", "latency, p99", "latency, worst"]
    steps += ["latency, worst, after 0.3 s of idling", "latency, worst, after parts now and then", "throughput"]
    steps += ["share of the slowest step's rate, below 0.5 MPixel"]
    assert set(figures) == {*wanted, *(f"fp32: {step}" for step in steps)}
    assert figures["fp32: differs from the CPU"]["value"] == 0
    for row in figures.values():
        assert (row["status"] == "ok") == (row["remedy"] == "")


def test_doctor_gpu_goes_on_where_the_engine_can_not(line: Line, plans: Path) -> None:
    """As on a card that TensorRT-RTX does not support: link and copies are measured, the engine is a failure."""
    on_the_gpu(line, plans)
    env = standin.environment(STANDIN_CAPABILITY="90")
    arguments = ["doctor", "gpu", "-c", str(line.config)]
    done = subprocess.run(
        [sys.executable, "-m", "inspectd", *arguments], capture_output=True, text=True, timeout=100, env=env
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "GPU: 0: stand-in, no GPU" in done.stderr  # it tells as it goes, then shows all
    shown = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert any(said.startswith("copy to the GPU, ring: ") for _, said in shown)
    assert any(status == "fail" and said.startswith("engine: ") for status, said in shown)
    (why,) = (said for said in done.stderr.splitlines() if said.startswith("engine:"))  # shown, it may be wrapped
    assert "does not support compute capability sm90" in why


@pytest.mark.alone
def test_the_tests_for_a_gpu_run_on_the_stand_in_as_well() -> None:
    """So that they are ready when a GPU is at hand. The shipped network is not what the stand-in computes."""
    others = "not golden_images and not second_start and not doctor"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu and not proof", "-k", others, "tests/gpu"]
    base = tempfile.mkdtemp(prefix="gpu-")  # a socket's path may have 107 bytes: tmp_path alone has most of them
    command += ["-p", "no:cacheprovider", f"--basetemp={base}"]
    env, root = standin.environment(INSPECTD_REHEARSAL="1"), Path(__file__).parents[3]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=env, cwd=root)
    shutil.rmtree(base)
    assert done.returncode == 0 and "8 passed" in done.stdout, done.stdout[-4000:] + done.stderr[-2000:]
