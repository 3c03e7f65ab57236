"""Which daemon `watch` and `ctl` mean: by `-c`, by `--connect`, or by the config beside."""

import subprocess
import sys
from pathlib import Path

import pytest

from inspectd.subscribe import Results
from inspectd.wire.keys import write_pair
from tests.lines import Line, collect, inspectd, results_of, state_is, stop
from tests.ports import free_endpoint

WATCH = ("watch", "--json", "--count", "1")


@pytest.mark.parametrize("is_named", [True, False])
def test_watch_and_ctl_find_the_daemon_by_its_config(line: Line, is_named: bool) -> None:
    line.config.write_text(line.config.read_text().replace(line.endpoint, "ipc://own"))  # relative to the config
    cwd = Path("/") if is_named else line.folder
    option = ["-c", str(line.config)] if is_named else []
    with Results(f"ipc://{line.folder}/own") as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        for words, said in (("ctl", "status"), "line test: Continuous"), (WATCH, '"line":"test"'):
            command = [sys.executable, "-m", "inspectd", *words, *option]
            shown = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
            assert shown.returncode == 0 and said in shown.stdout, shown.stderr
        assert stop(daemon) == 0


def test_what_is_wrong_elsewhere_in_the_config_does_not_matter(line: Line) -> None:
    daemon = line.start()
    with Results(line.endpoint) as subscriber:
        collect(subscriber, lambda events: bool(results_of(events)))
    line.config.write_text(line.config.read_text().replace("width", "widht").replace("dark/recipe", "gone"))
    assert inspectd("ctl", "status", "-c", line.config).returncode == 0
    assert stop(daemon) == 0


@pytest.mark.parametrize("words", [("ctl", "status"), WATCH])
def test_a_mistake_in_publish_is_told(line: Line, words: tuple[str, ...]) -> None:
    line.config.write_text(line.config.read_text().replace("[publish]", "[publish]\nresluts = 3"))
    shown = inspectd(*words, "-c", line.config)
    assert shown.returncode == 78 and shown.stderr.count("\n") == 1
    assert "config.toml:5:1: publish.resluts" in shown.stderr and "results" in shown.stderr


@pytest.mark.parametrize("words", [("ctl", "status"), WATCH])
def test_both_is_a_wrong_call(line: Line, words: tuple[str, ...]) -> None:
    shown = inspectd(*words, "-c", line.config, "--connect", line.endpoint)
    assert (shown.returncode, shown.stderr.count("\n")) == (2, 1)
    assert "give --connect or --config, not both" in shown.stderr


@pytest.mark.parametrize("words", [("ctl", "status"), WATCH])
def test_a_daemon_that_wants_keys_is_not_waited_for_without(line: Line, words: tuple[str, ...]) -> None:
    write_pair(line.folder, "line1")
    for domain in ("read", "control"):
        (line.folder / "clients" / domain).mkdir(parents=True)
    keys = '[publish]\nserver_key = "line1.key_secret"\nclient_keys = "clients"'
    text = line.config.read_text().replace("[publish]", keys)
    line.config.write_text(text.replace(line.endpoint, free_endpoint()))
    shown = inspectd(*words, "-c", line.config)
    assert (shown.returncode, shown.stderr.count("\n")) == (1, 1)
    assert "wants keys at tcp://127.0.0.1:" in shown.stderr and "give --server-key" in shown.stderr
