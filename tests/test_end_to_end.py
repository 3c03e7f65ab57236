"""The daemon as a user starts it, with subscribers in other processes."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from inspectd.publish.journal.records import read_entries
from inspectd.runtime.frame import Reason, Verdict
from inspectd.subscribe import Missed, Results
from inspectd.wire.results import Flag, VerdictCode, decode_result
from tests.lines import (
    SPOT,
    Line,
    Triggers,
    beats_of,
    camera_process_of,
    camera_runs_again,
    collect,
    each,
    inspectd,
    results_of,
    state_is,
    stop,
    to_the_end,
)

JSON_KEYS = {
    "seq", "epoch", "line", "camera", "kind", "part_id", "frame_id", "verdict", "reason", "simulated", "regions",
    "recipe", "model", "image", "times",
}  # fmt: skip
TIMES = {"trigger_utc_ns", "ring_us", "engine_us", "judge_us", "publish_us", "deadline_us", "device_ns"}


def test_run_in_one_shell_watch_in_another(line: Line) -> None:
    daemon = line.start()
    shown = inspectd("watch", "--json", "--count", "50", "--connect", line.endpoint)
    assert stop(daemon) == 0, line.log
    results = [json.loads(text) for text in shown.stdout.splitlines()]
    assert len(results) == 50 and shown.returncode == 0
    assert [r["seq"] for r in results] == list(range(results[0]["seq"], results[0]["seq"] + 50))
    assert len({r["epoch"] for r in results}) == 1
    for result in results:
        assert result.keys() >= JSON_KEYS and result["times"].keys() == TIMES
        assert (result["kind"], result["line"], result["camera"]) == ("view", "test", "top")
        assert result["simulated"] is True
        assert result["verdict"] == ("FAIL" if result["part_id"] % 2 == 0 else "PASS")
        assert result["times"]["ring_us"] < result["times"]["engine_us"] < result["times"]["judge_us"]
        for region in result["regions"]:
            x, y, w, h = region["bbox"]
            assert abs(x - SPOT[0]) <= 4 and abs(y - SPOT[1]) <= 4
            assert abs(x + w - SPOT[0] - SPOT[2]) <= 4 and abs(y + h - SPOT[1] - SPOT[3]) <= 4
            assert x < region["centroid"][0] < x + w and y < region["centroid"][1] < y + h
            assert region["class"] == "spot" and region["score"] > 0.9 and region["area_px"] > 200
    assert sum(len(r["regions"]) for r in results) == 25


def test_count_stops_by_itself_and_the_journal_holds_every_result(line: Line) -> None:
    with Results(line.endpoint) as subscriber:
        daemon = line.start("--count", "150")
        events = to_the_end(subscriber)
        assert daemon.wait(20) == 0
    received = results_of(events)
    assert len(received) >= 20 and not [e for e in events if isinstance(e, Missed)]
    entries = list(read_entries(line.state_dir / "journal"))
    assert [e.seq for e in entries] == list(range(1, len(entries) + 1))
    kept = {e.seq: decode_result(e.body) for e in entries}
    assert all(kept[r.seq] == r.result for r in received)
    books = beats_of(events)[-1].cameras["top"]
    assert books.balanced and books.in_flight == 0 and books.books.received == len(entries)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_clean_stop_gives_the_last_frame_its_result(line: Line, number: int) -> None:
    line.write('trigger_counter = "triggers"')
    triggers = Triggers(line.folder / "triggers")
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        for _ in range(3):
            triggers.fire()
        assert stop(daemon, number) == 0, line.log
        events = to_the_end(subscriber)
    assert [r.result.frame_id for r in results_of(events)] == [1, 2, 3]


def check_killed_camera(line: Line, kills: int) -> Counter[Reason]:
    """Kill the camera process `kills` times while triggers are counted outside it; returns the reasons."""
    line.write('trigger_counter = "triggers"')
    triggers, rng, enough = Triggers(line.folder / "triggers"), random.Random(7), threading.Event()

    def fire() -> None:
        while not enough.wait(rng.uniform(0.001, 0.006)):
            triggers.fire()

    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        events = collect(subscriber, state_is("ContinuousExecution"))
        firing = threading.Thread(target=fire)
        firing.start()
        for n in range(1, kills + 1):
            collect(subscriber, camera_runs_again(n))
            time.sleep(rng.uniform(0.1, 0.5))
            pid = camera_process_of(daemon)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        collect(subscriber, camera_runs_again(kills + 1))
        enough.set()
        firing.join()
        triggers.fire()
        events += collect(subscriber, lambda e: triggers.count in each(r.result for r in results_of(e[-1:])))
        assert stop(daemon) == 0, line.log
        events += to_the_end(subscriber)
    entries = [decode_result(e.body) for e in read_entries(line.state_dir / "journal")]
    assert sorted(each(entries)) == list(range(1, triggers.count + 1))
    assert sorted(each(entries, "part_id")) == list(range(1, triggers.count + 1))
    view = beats_of(events)[-1].cameras["top"]
    assert view.balanced and view.in_flight == 0 and view.books.triggered == triggers.count
    missed = (
        Reason.CAMERA,
        Reason.OVERRUN,
        Reason.LOST,
    )  # a busy machine may be out of slots, or too late to look
    for result in entries:
        assert (result.verdict is Verdict.UNKNOWN) == (result.reason in missed), result
    return Counter(r.reason for r in entries)


def test_every_trigger_has_one_result_though_the_camera_process_is_killed(line: Line) -> None:
    reasons = check_killed_camera(line, kills=3)
    assert reasons[Reason.CAMERA] > 0 and reasons[Reason.NONE] > 0


@pytest.mark.proof
@pytest.mark.timeout(300)
def test_every_trigger_has_one_result_though_the_camera_process_is_killed_ten_times(line: Line) -> None:
    reasons = check_killed_camera(line, kills=10)
    print(f"10 kills: {sum(reasons.values())} triggers, {dict(reasons)}", file=sys.stderr)


def test_a_killed_daemon_goes_on_where_it_was(line: Line) -> None:
    parts: list[int] = []
    epochs, last_seq = set(), 0
    for _ in range(3):
        with Results(line.endpoint) as subscriber:
            daemon = line.start()
            received = results_of(collect(subscriber, lambda e: len(results_of(e)) >= 10))
        stop(daemon, signal.SIGKILL)
        assert received[0].seq > last_seq
        last_seq = max(e.seq for e in read_entries(line.state_dir / "journal"))
        epochs |= {r.header.epoch for r in received}
    entries = list(read_entries(line.state_dir / "journal"))
    parts = [e.part_id for e in entries]
    assert [e.seq for e in entries] == list(range(1, last_seq + 1))
    assert len(epochs) == 1 and parts == sorted(set(parts))


def test_camera_processes_die_with_the_daemon(line: Line) -> None:
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
    pid = camera_process_of(daemon)
    stop(daemon, signal.SIGKILL)
    end_s = time.monotonic() + 5
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_unfit_images_are_unknown_results_and_the_line_goes_on(line: Line) -> None:
    whole = (line.images / "part_002.png").read_bytes()
    (line.images / "part_002.png").write_bytes(whole[: len(whole) // 2])
    (line.images / "part_003.png").write_bytes(b"not an image")
    line.write("acquisition_frame_rate_hz = 50.0\nloop = false")
    shown = inspectd("run", "-c", line.config)
    assert shown.returncode == 0, shown.stderr
    results = [decode_result(e.body) for e in read_entries(line.state_dir / "journal")]
    by_image = {(r.frame_id - 1) % 4 + 1: r for r in results}
    assert len(results) == 4 and [by_image[i].verdict for i in (1, 4)] == [Verdict.PASS, Verdict.FAIL]
    for i in (2, 3):
        assert by_image[i].reason is Reason.INCOMPLETE and f"part_00{i}.png" in by_image[i].detail


def test_a_camera_that_is_not_there_yet_is_a_state(line: Line) -> None:
    away = line.images.rename(line.folder / "away")
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        events = collect(subscriber, state_is("Preoperational"))
        collect(subscriber, lambda e: bool(b := beats_of(e)) and "can't be read" in b[-1].detail)
        assert daemon.poll() is None and beats_of(events)[-1].cameras["top"].state == "dead"
        away.rename(line.images)
        collect(subscriber, lambda e: len(results_of(e)) >= 5)
    assert stop(daemon) == 0
    line.images.rename(away)
    checked = inspectd("check", "-c", line.config)
    assert checked.returncode == 69 and "camera top" in checked.stderr and "Traceback" not in checked.stderr


def test_a_slow_engine_answers_unknown_at_the_deadline(line: Line) -> None:
    recipe = line.folder / "dark/recipe.toml"
    recipe.write_text(recipe.read_text().replace("deadline_ms = 2000", "deadline_ms = 0.05"))
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        events = collect(subscriber, lambda e: len(results_of(e)) >= 30)
        assert stop(daemon) == 0
        events += to_the_end(subscriber)
    for received in results_of(events):
        assert received.result.reason is Reason.DEADLINE
        assert received.header.verdict is VerdictCode.UNKNOWN and received.header.flags & Flag.SIMULATED
    view = beats_of(events)[-1].cameras["top"]
    assert view.balanced and view.in_flight == 0


def test_overload_loses_nothing(line: Line) -> None:
    """Far more triggers than the line can take: overrun, lost or judged, each trigger exactly once."""
    line.write('trigger_counter = "triggers"\nspare_slots = 1')
    triggers = Triggers(line.folder / "triggers")
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        for _ in range(3000):
            triggers.fire()
            time.sleep(0.0001)
        events = collect(subscriber, lambda e: triggers.count in each(r.result for r in results_of(e[-1:])))
        assert stop(daemon) == 0
        events += to_the_end(subscriber)
    entries = [decode_result(e.body) for e in read_entries(line.state_dir / "journal")]
    assert sorted(each(entries)) == list(range(1, triggers.count + 1))
    assert beats_of(events)[-1].cameras["top"].balanced


def test_one_daemon_per_line(line: Line) -> None:
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        second = inspectd("run", "-c", line.config)
        assert second.returncode == 69
        assert second.stderr.count("\n") == 1 and f"process {daemon.pid} holds" in second.stderr
        collect(subscriber, lambda e: len(results_of(e)) >= 5)
    assert stop(daemon) == 0


def test_a_port_in_use_is_one_sentence(line: Line) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        line.config.write_text(line.config.read_text().replace(line.endpoint, endpoint))
        refused = inspectd("run", "-c", line.config)
    assert refused.returncode == 69
    assert refused.stderr.count("\n") == 1 and endpoint in refused.stderr and "Traceback" not in refused.stderr


def test_an_ipc_path_in_use_is_one_sentence(line: Line) -> None:
    """libzmq alone would take it away from the daemon that has it."""
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        other = line.folder / "other.toml"
        other.write_text(line.config.read_text().replace('line = "test"', 'line = "other"'))
        refused = inspectd("run", "-c", other)
        assert refused.returncode == 69 and refused.stderr.count("\n") == 1, refused.stderr
        assert f"{line.endpoint} is in use by another daemon" in refused.stderr
        assert stop(daemon) == 0
    gone = inspectd("run", "-c", rewritten(line, "/results", "/gone/away/results"))
    assert gone.returncode == 69 and "/gone/away can't be used: No such file or directory" in gone.stderr
    long = inspectd("run", "-c", rewritten(line, "/gone/away/results", f"/{'x' * 120}"))
    assert long.returncode == 78 and "107 bytes" in long.stderr


def rewritten(line: Line, old: str, new: str) -> Path:
    line.config.write_text(line.config.read_text().replace(old, new))
    return line.config


def test_systemd_is_told_ready_alive_and_stopping(line: Line, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        daemon = line.start(env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"})
        assert manager.recv(4096).startswith(b"READY=1\n")
        end_s = time.monotonic() + 30
        while "ContinuousExecution" not in (message := manager.recv(4096).decode()):
            assert message.startswith("WATCHDOG=1\n")
            assert time.monotonic() < end_s, f"nothing but {message!r}"
        assert message.startswith("WATCHDOG=1\n")
        assert stop(daemon) == 0
        while not (last := manager.recv(4096).decode()).startswith("STOPPING=1"):
            assert last.startswith("WATCHDOG=1")


def test_a_stage_that_hangs_is_not_fed_to_the_watchdog(line: Line, tmp_path: Path) -> None:
    """SIGSTOP of the whole process is the hang at hand: no thread of ours may feed the watchdog meanwhile."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        daemon = line.start(env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"})
        while not manager.recv(4096).startswith(b"WATCHDOG"):
            pass
        daemon.send_signal(signal.SIGSTOP)
        manager.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while True:
                manager.recv(4096)
        daemon.send_signal(signal.SIGCONT)
        manager.settimeout(20)
        assert manager.recv(4096)
        assert stop(daemon) == 0


def test_run_watch_shows_results_and_ends_with_the_daemon(line: Line) -> None:
    shown = inspectd("run", "-c", line.config, "--watch", "--count", "60")
    assert shown.returncode == 0, shown.stderr
    rows = [row for row in shown.stdout.splitlines() if "PASS" in row or "FAIL" in row]
    assert rows and "spot" in shown.stdout and "Traceback" not in shown.stderr


def test_watch_tells_of_a_daemon_in_trouble_without_a_terminal_too(line: Line) -> None:
    line.images.rename(line.folder / "away")
    daemon = line.start()
    watcher = line.spawn(
        [sys.executable, "-m", "inspectd", "watch", "--json", "--connect", line.endpoint],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert watcher.stdout is not None and watcher.stderr is not None
    while not (said := watcher.stderr.readline()).startswith("Preoperational: camera top: "):
        assert "silence" in said or "starting" in said, said
    (line.folder / "away").rename(line.images)
    assert json.loads(watcher.stdout.readline())["line"] == "test"
    while watcher.stderr.readline() != "ContinuousExecution\n":
        pass
    assert stop(daemon) == 0
    watcher.send_signal(signal.SIGINT)
    watcher.communicate()


def test_watch_tells_of_a_silent_daemon(line: Line) -> None:
    daemon = line.start()
    watcher = line.spawn(
        [sys.executable, "-m", "inspectd", "watch", "--json", "--connect", line.endpoint],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert watcher.stdout is not None and watcher.stderr is not None
    assert json.loads(watcher.stdout.readline())["line"] == "test"
    stop(daemon, signal.SIGKILL)
    told = 0
    while told < 4:  # every second; while the daemon started it may have been told before
        said = watcher.stderr.readline()
        told += "nothing heard of the daemon" in said
        assert "nothing heard of the daemon" in said or said.startswith(("Preoperational: ", "ContinuousExec")), (
            said
        )
    watcher.send_signal(signal.SIGINT)
    watcher.communicate()
    assert watcher.returncode == 0


def test_what_a_failed_test_left_running_is_killed(line: Line) -> None:
    daemon = line.start()
    beside = line.spawn([sys.executable, "-c", "import time; time.sleep(99)"], stdout=subprocess.PIPE)
    line.close()
    assert daemon.returncode == beside.returncode == -signal.SIGKILL
    assert beside.stdout is not None and beside.stdout.closed
