"""A daemon with the GPU backend, as a user would start it: real pycuda, the stand-in driver, no TensorRT."""

import os
import subprocess
import sys

import pytest

from inspectd.results import Reason, Verdict
from inspectd.subscribe import Event, Silence, Subscriber
from tests.engine import standin
from tests.lines import Line, beats_of, collect, results_of, state_is, stop, to_the_end


def on_the_gpu(line: Line, rate_hz: float = 50.0) -> None:
    line.write(f"acquisition_frame_rate_hz = {rate_hz}")
    line.config.write_text(line.config.read_text() + '\n[engine]\nkind = "tensorrt"\n')


def start(line: Line, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.engine.standin.daemon", "run", "-c", str(line.config)]
    env = {
        **os.environ,
        "LD_LIBRARY_PATH": str(standin.folder()),
        "LD_PRELOAD": str(standin.folder()) + "/libcuda.so.1",
        **environment,
    }
    with (line.folder / "log").open("a") as log:
        return line.spawn(command, stdout=log, stderr=log, env=env)


def to_the_failure(subscriber: Subscriber) -> list[Event]:
    """All that a daemon says whose GPU is lost: the last state is Error, not Halted."""
    silent = lambda events: bool(beats_of(events)) and isinstance(events[-1], Silence)  # noqa: E731
    return collect(subscriber, silent, 40)


def test_every_part_gets_its_verdict(line: Line) -> None:
    on_the_gpu(line)
    with Subscriber(line.endpoint) as subscriber:
        daemon = start(line)
        events = collect(subscriber, lambda events: len(results_of(events)) >= 40)
        assert stop(daemon) == 0, line.log
        events += to_the_end(subscriber)
    results = [received.result for received in results_of(events)]
    assert [r.part_id for r in results] == list(range(1, len(results) + 1))
    for result in results:  # image i is spotted if i is even
        assert result.verdict is (Verdict.PASS if result.part_id % 2 else Verdict.FAIL)
    assert "stand-in engine, stand-in, no GPU" in line.log and "Traceback" not in line.log


@pytest.mark.parametrize(
    "fault", ["cuGraphLaunch 100 719", "cuEventSynchronize 100 700", "cuMemcpyHtoDAsync_v2 90 999"]
)
def test_a_lost_gpu_ends_every_frame_as_unknown_and_the_daemon_with_its_exit_code(line: Line, fault: str) -> None:
    on_the_gpu(line, 200.0)
    with Subscriber(line.endpoint) as subscriber:
        daemon = start(line, STANDIN_FAIL=fault)
        events = to_the_failure(subscriber)
        assert daemon.wait(20) == 70, line.log
    results = [received.result for received in results_of(events)]
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
def test_what_is_wrong_at_the_start_is_one_sentence(line: Line, environment: dict[str, str], said: str) -> None:
    on_the_gpu(line)
    daemon = start(line, **environment)
    assert daemon.wait(30) == (70 if "ILLEGAL" in said else 69)
    assert said in line.log and "Traceback" not in line.log and "PyCUDA ERROR" not in line.log
    assert line.log.splitlines()[-1].startswith("inspectd: ")


def test_without_a_driver_the_cpu_engine_is_named(line: Line) -> None:
    on_the_gpu(line)
    standin.folder()  # pycuda is there
    env = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    command = [sys.executable, "-m", "inspectd", "run", "-c", str(line.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 69 and "Traceback" not in done.stderr
    assert 'kind = "openvino"' in done.stderr


def test_state_is_operational_again_after_a_restart(line: Line) -> None:
    """What systemd does: the numbers go on, nothing is lost in between."""
    on_the_gpu(line, 200.0)
    with Subscriber(line.endpoint) as subscriber:
        first = start(line, STANDIN_FAIL="cuGraphLaunch 60 719")
        events = to_the_failure(subscriber)
        assert first.wait(20) == 70
        second = start(line)
        events += collect(subscriber, lambda e: state_is("ContinuousExecution")(e) and bool(results_of(e)))
        assert stop(second) == 0
    numbers = [received.seq for received in results_of(events)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
