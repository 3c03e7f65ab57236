"""What a terminal shows: taken over while results are drawn, and given back as it was, whatever ends that."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inspectd.subscribe import Results
from tests.acquire.sims import needs_simcam
from tests.lines import Line, collect, inspectd, results_of, state_is, stop
from tests.makers import shown_on

TAKEN, GIVEN_BACK = b"\x1b[?1049h", b"\x1b[?1049l"


def on_terminal(line: Line, *words: str | Path) -> tuple["subprocess.Popen[str]", int]:
    """A command of ours on a pseudo-terminal, and our end of that."""
    ours, theirs = os.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    command = [sys.executable, "-m", "inspectd", *map(str, words)]
    process = line.spawn(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    return process, ours


def test_run_with_watch_shows_its_start_then_results_then_what_was_held_back(line: Line) -> None:
    line.write("acquisition_frame_rate_hz = 50.0")
    process, ours = on_terminal(line, "run", "-c", line.config, "--watch", "--count", "60")
    with Results(line.endpoint) as subscriber:
        collect(subscriber, lambda events: len(results_of(events)) >= 10)
        for image in line.images.iterdir():
            image.unlink()
        process.send_signal(signal.SIGHUP)  # has it say something, as a warning
        shown = shown_on(ours)
    assert process.wait(30) == 0
    start, _, rest = shown.partition(TAKEN)
    assert b"its recipes and models, then compiling the network: some seconds" in start
    drawn, _, after = rest.partition(GIVEN_BACK)
    assert b"verdict" in drawn and b"PASS" in drawn and b"UNKNOWN" in after
    assert b"Traceback" not in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_terminal_is_given_back(line: Line, number: int) -> None:
    daemon = line.start()
    with Results(line.endpoint) as subscriber:
        collect(subscriber, lambda events: bool(results_of(events)))
    process, ours = on_terminal(line, "watch", "-c", line.config)
    shown = b""
    while b"PASS" not in shown:
        shown += os.read(ours, 65536)
    process.send_signal(number)
    shown += shown_on(ours)
    assert process.wait(30) == (0 if number == signal.SIGINT else 128 + number)
    assert shown.count(TAKEN) == shown.count(GIVEN_BACK) == 1
    assert b"PASS" in shown.partition(GIVEN_BACK)[2], "the last results stay to be read"
    assert stop(daemon) == 0


@needs_simcam
def test_two_cameras_and_three_commands_name_the_same_numbers(line: Line) -> None:
    line.write_sim('trigger = "line"\npart_id = "counter"', 'trigger = "software"')
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        pulsed = inspectd("simcam", "trigger", "-c", line.config, "--camera", "cam0", "--count", "3").stdout
        sent = inspectd("ctl", "trigger", "cam1", "A-4711", "-c", line.config).stdout
        results = results_of(collect(subscriber, lambda events: len(results_of(events)) >= 4))
        unnamed = inspectd("simcam", "trigger", "-c", line.config)
        assert stop(daemon) == 0, line.log
    frames = {name: [r.result.frame_id for r in results if r.result.camera == name] for name in ("cam0", "cam1")}
    assert pulsed.startswith("camera cam0: 3 pulses sent; its own count of triggers, `frame` in watch, is ")
    assert f" is {frames['cam0'][-1]} now" in pulsed
    assert sent == f"camera cam1 triggered: `frame` {frames['cam1'][0]} in watch, part_ref A-4711\n"
    assert unnamed.returncode == 1
    assert "has the simulated cameras cam0, cam1: name one with --camera" in unnamed.stderr
