"""The daemon on simulated GenICam cameras, through the very code of a real one."""

import os
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from inspectd.acquire.simcam.faults import Call, Effect
from inspectd.acquire.simcam.world import Rig
from inspectd.publish.journal.records import read_entries
from inspectd.runtime.frame import Reason, Verdict
from inspectd.subscribe import Event, Results
from inspectd.wire.results import CameraView, Result, decode_result
from tests.acquire.sims import needs_simcam
from tests.lines import Line, beats_of, camera_process_of, collect, each, inspectd, results_of, state_is, stop

pytestmark = needs_simcam
PROOF = [pytest.mark.proof, pytest.mark.timeout(900)]
COUNTED = 'trigger = "line"\npart_id = "counter"\nspare_slots = 32'


def journaled(line: Line) -> list[Result]:
    return [decode_result(entry.body) for entry in read_entries(line.state_dir / "journal")]


def view_of(events: list[Event], camera: str = "cam0") -> CameraView | None:
    beats = beats_of(events[-1:])
    return beats[0].cameras[camera] if beats else None


def all_out(triggered: int, camera: str = "cam0") -> Callable[[list[Event]], bool]:
    """For `collect`: so many triggers, and each has its result."""

    def holds(events: list[Event]) -> bool:
        view = view_of(events, camera)
        return view is not None and view.books.triggered == triggered and view.in_flight == 0

    return holds


def fire(rig: Rig, count: int, period_s: float = 0.005) -> None:
    for _ in range(count):
        rig.pulse()
        time.sleep(period_s)


def shows_its_own(result: Result) -> bool:
    """Trigger n shows image n - 1, and every second image has a spot."""
    return result.verdict == (Verdict.FAIL if result.frame_id % 2 == 0 else Verdict.PASS)


def test_each_pulse_on_the_line_is_one_result_of_its_own_picture(line: Line) -> None:
    line.write_sim(COUNTED)
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        with line.rig() as rig:
            fire(rig, 100)
            events = collect(subscriber, all_out(100))
        assert stop(daemon) == 0, line.log
    results = journaled(line)
    assert sorted(r.part_id for r in results) == sorted(each(results)) == list(range(1, 101))
    assert all(shows_its_own(r) and r.simulated and r.times.device_ns for r in results), results
    view = view_of(events)
    assert view is not None and view.balanced and view.clock.uncertainty_ns is not None
    assert "Traceback" not in line.log and "does not implement" not in line.log


def check_software_triggers(line: Line, count: int, rate_hz: float) -> Counter[Reason]:
    line.write_sim(f'trigger = "software"\nacquisition_frame_rate_hz = {rate_hz}\nspare_slots = 64')
    daemon = line.start("--count", str(count))
    assert daemon.wait(60 + 3 * count / rate_hz) == 0, line.log
    results = journaled(line)
    assert len(results) >= count
    assert sorted(each(results, "part_id")) == list(range(1, sum(r.parts for r in results) + 1))
    judged = [r for r in results if r.reason in (Reason.NONE, Reason.DEFECT)]
    assert all(shows_its_own(r) for r in judged)
    return Counter(r.reason for r in results)


def test_software_triggers(line: Line) -> None:
    reasons = check_software_triggers(line, 200, 100.0)
    assert set(reasons) == {Reason.NONE, Reason.DEFECT}


@pytest.mark.proof
@pytest.mark.timeout(300)
def test_ten_thousand_software_triggers(line: Line) -> None:
    reasons = check_software_triggers(line, 10_000, 250.0)
    print(f"10,000 software triggers: {dict(reasons)}", file=sys.stderr)
    assert set(reasons) == {Reason.NONE, Reason.DEFECT}


@pytest.mark.alone
def test_unplugged_and_back(line: Line) -> None:
    line.write_sim(COUNTED)
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        with line.rig() as rig:
            fire(rig, 10)
            rig.unplug(1.0)
            back_s = time.monotonic() + 1.0
            fire(rig, 10)
            events = collect(subscriber, state_is("Preoperational"))
            assert "camera cam0: " in beats_of(events)[-1].detail
            collect(subscriber, state_is("ContinuousExecution"))
            assert time.monotonic() - back_s < 2.0
            fire(rig, 10)
            events = collect(subscriber, all_out(30))
        assert stop(daemon) == 0, line.log
    results = journaled(line)
    assert sorted(each(results)) == list(range(1, 31))
    assert all(r.reason is Reason.CAMERA for r in results if 10 < r.frame_id <= 20)
    assert all(shows_its_own(r) for r in results if r.frame_id <= 10 or r.frame_id > 20)
    view = view_of(events)
    assert view is not None and view.losses.reconnects >= 1 and view.process_starts == 1


def test_an_exchanged_camera_is_refused_until_the_first_one_is_back(line: Line) -> None:
    line.write_sim(COUNTED)
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        with line.rig() as rig:
            rig.rename("OTHER")
            rig.unplug(0.1)
            collect(
                subscriber, lambda e: bool(b := beats_of(e[-1:])) and "lists the serials 'OTHER'" in b[0].detail
            )
            rig.rename("SIM-cam0")
            collect(subscriber, state_is("ContinuousExecution"))
        assert stop(daemon) == 0, line.log


def check_reconnects(line: Line, count: int) -> tuple[float, float, int]:
    """Growth in MiB of the daemon and of its camera process, and how many camera processes there were."""
    line.write_sim(COUNTED)
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        sizes: list[float] = []
        with line.rig() as rig:
            for n in range(1, count + 1):
                rig.unplug(0.05)
                collect(subscriber, state_is("Preoperational"))
                collect(subscriber, state_is("ContinuousExecution"))
                rig.pulse()
                events = collect(subscriber, all_out(n))
                if n == min(10, count // 2):
                    sizes.append(resident_mib(daemon.pid))
                    child = resident_mib(camera_process_of(daemon) or 0)
        view = view_of(events)
        sizes.append(resident_mib(daemon.pid))
        grown = resident_mib(camera_process_of(daemon) or 0) - child
        assert stop(daemon, timeout_s=30) == 0, line.log
    assert view is not None and view.balanced
    assert sorted(each(journaled(line))) == list(range(1, count + 1))
    return sizes[1] - sizes[0], grown, view.process_starts


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def test_reconnects_leave_the_daemon_as_small_as_it_was(line: Line) -> None:
    daemon_mib, child_mib, _ = check_reconnects(line, 8)
    assert daemon_mib < 4 and child_mib < 30


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_a_thousand_reconnects(line: Line) -> None:
    daemon_mib, child_mib, processes = check_reconnects(line, 1000)
    print(
        f"1000 reconnects: daemon +{daemon_mib:.1f} MiB, camera process +{child_mib:.1f} MiB, {processes} in all",
        file=sys.stderr,
    )
    assert daemon_mib < 8 and child_mib < 300


def test_four_cameras_each_with_its_own_process_and_account(line: Line) -> None:
    line.write_sim(COUNTED, COUNTED, COUNTED + "\ncore = 0", COUNTED)
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        pids = [int(p) for p in Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()]
        assert len(pids) == 4 and sorted(len(os.sched_getaffinity(pid)) for pid in pids)[0] == 1
        rigs = [line.rig(i) for i in range(4)]
        threads = [threading.Thread(target=fire, args=(rig, 30, 0.02)) for rig in rigs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i in range(4):
            collect(subscriber, all_out(30, f"cam{i}"))
        for rig in rigs:
            rig.close()
        assert stop(daemon) == 0, line.log
    for i in range(4):
        results = [r for r in journaled(line) if r.camera == f"cam{i}"]
        assert sorted(each(results, "part_id")) == list(range(1, 31))
        assert all(shows_its_own(r) for r in results)


@pytest.mark.alone
def test_a_register_that_blocks_for_six_seconds_delays_no_other_cameras_verdict(line: Line) -> None:
    line.write_sim(COUNTED + "\nstall_s = 10.0", COUNTED)
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        with line.rig(0) as stuck, line.rig(1) as other:
            took = [latencies(subscriber, other, 60)]
            stuck.slow_register(6.0)
            time.sleep(0.7)  # within half a second the idle camera is asked for a register
            began_s = time.monotonic()
            took.append(latencies(subscriber, other, 200))
            assert time.monotonic() - began_s < 6.0
            stuck.pulse()
            collect(subscriber, lambda e: bool(r := results_of(e[-1:])) and r[0].result.camera == "cam0", 15)
        assert stop(daemon) == 0, line.log
    assert all(shows_its_own(r) for r in journaled(line) if r.camera == "cam1")
    before, during = (statistics.median(ms) for ms in took)
    print(f"median trigger to result {before:.1f} ms, beside a stuck camera {during:.1f} ms", file=sys.stderr)
    assert during < 2 * before + 2.0, (before, during)


def latencies(subscriber: Results, rig: Rig, count: int) -> list[float]:
    """Trigger to publication of so many parts, one after the other, in ms."""
    took = []
    for _ in range(count):
        rig.pulse()
        events = collect(subscriber, lambda e: bool(r := results_of(e[-1:])) and r[0].result.camera == "cam1")
        took.append(results_of(events)[-1].result.times.publish_us / 1e3)
        time.sleep(0.005)
    return took


def test_a_stuck_camera_process_is_killed_within_stall_s(line: Line) -> None:
    line.write_sim(COUNTED + "\nstall_s = 1.0")
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        with line.rig() as rig:
            rig.slow_register(6.0)
            time.sleep(0.7)
            fire(rig, 5)
            collect(subscriber, state_is("Preoperational"), 4)
            collect(subscriber, state_is("ContinuousExecution"))
            fire(rig, 5)
            collect(subscriber, all_out(10))
        assert stop(daemon) == 0, line.log
    assert "camera process hangs" in line.log and "killed by SIGKILL" in line.log
    assert sorted(each(journaled(line))) == list(range(1, 11))


@pytest.mark.alone
@pytest.mark.parametrize(
    "missed", [40_000, pytest.param(10**6, marks=[pytest.mark.proof, pytest.mark.timeout(900)])]
)
def test_a_storm_of_missed_triggers_makes_no_part_of_the_line_late(line: Line, missed: int) -> None:
    """Of one camera, which shows a part after each thousand; beside one of 20 parts/s."""
    line.write_sim("acquisition_frame_rate_hz = 20.0\nspare_slots = 32", COUNTED)
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        with line.rig(1) as rig:
            for _ in range(missed // 1000):
                rig.next(Effect.MISSED, 1000)
                rig.pulse(1000)
                rig.pulse()
                collect(subscriber, lambda e: bool(r := results_of(e[-1:])) and r[0].result.image is not None)
                time.sleep(0.1)
            collect(subscriber, all_out(missed + missed // 1000, "cam1"), 120)
        assert stop(daemon) == 0, line.log
    results = journaled(line)
    steady, stormy = ([r for r in results if r.camera == f"cam{i}"] for i in (0, 1))
    shown = [r for r in stormy if r.parts == 1 and r.image]
    reasons = Counter(r.reason for r in steady + shown)
    slowest_ms = max(r.times.publish_us for r in steady + shown) / 1e3
    print(
        f"{missed} missed, {len(results)} results: {len(steady)} parts beside, {len(shown)} after", file=sys.stderr
    )
    print(f"trigger to result {slowest_ms:.1f} ms at most", file=sys.stderr)
    assert each(steady, "part_id") == list(range(1, len(steady) + 1))
    assert len(shown) == missed // 1000 and sum(r.parts for r in stormy) == missed + len(shown)
    assert set(reasons) == {Reason.NONE, Reason.DEFECT}  # none late


@pytest.mark.alone
def test_a_camera_whose_stop_hangs_is_killed_within_stall_s(line: Line) -> None:
    """It fell silent; the new start that shall help never gets beyond the stop."""
    line.write_sim(COUNTED + "\nstall_s = 2.0")
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        with line.rig() as rig:
            rig.fall_silent()
            rig.faults.slow(Call.STOP, 60.0)
            fire(rig, 1)
            collect(subscriber, all_out(1))
            fire(rig, 1)
            began_s = time.monotonic()
            collect(subscriber, state_is("Preoperational"))
            collect(subscriber, state_is("ContinuousExecution"), 20)
            assert time.monotonic() - began_s < 15  # once it was 30 s
            fire(rig, 5)
            collect(subscriber, all_out(7))
        assert stop(daemon) == 0, line.log
    assert "camera process hangs" in line.log and "killed by SIGKILL" in line.log
    results = journaled(line)
    assert sorted(r.frame_id for r in results) == list(range(1, 8))
    assert all(shows_its_own(r) for r in results if r.frame_id > 2)


def test_what_was_triggered_before_the_stop_has_its_result(line: Line) -> None:
    line.write_sim(COUNTED)
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        with line.rig() as rig:
            rig.drop(2)
            rig.pulse(5)
            assert stop(daemon) == 0, line.log
    assert sorted(each(journaled(line))) == [1, 2, 3, 4, 5]


def test_a_killed_camera_process_leaves_no_trigger_without_a_result(line: Line) -> None:
    line.write_sim(COUNTED)
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        with line.rig() as rig:
            for n in range(1, 4):
                fire(rig, 20)
                os.kill(camera_process_of(daemon) or 0, signal.SIGKILL)
                fire(rig, 20)
                collect(subscriber, all_out(40 * n))
        assert stop(daemon) == 0, line.log
    results = journaled(line)
    assert sorted(each(results)) == list(range(1, 121))
    assert all(shows_its_own(r) for r in results if r.verdict is not Verdict.UNKNOWN)


def test_simcam_from_a_shell(line: Line) -> None:
    line.write_sim(COUNTED)
    early = inspectd("simcam", "trigger", "-c", line.config)
    assert early.returncode == 1 and "the daemon makes the camera when it first runs" in early.stderr
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        assert inspectd("simcam", "fault", "drop", "1", "-c", line.config).returncode == 0
        shown = inspectd("simcam", "trigger", "--count", "5", "--rate-hz", "100", "-c", line.config)
        assert "camera cam0: 5 pulses sent; its own count of triggers, `frame` in watch, is 5 now" in shown.stdout
        collect(subscriber, all_out(5))
        for arguments, said in (
            (("fault", "drop", "many"), "fault drop: 'many' is not a whole number from 0 to 1000000000"),
            (("fault", "unplug", "1e12"), "fault unplug: 1e12 s is not between 0 and 86400 s"),
            (("fault", "stary", "1"), "fault 'stary': the kinds are drop, incomplete, "),
            (("fault", "serial", ""), "fault serial: '' is not a serial of 1 to 31 characters"),
            (("trigger", "--camera", "side"), "has no simulated camera side; it has cam0"),
        ):
            refused = inspectd("simcam", *arguments, "-c", line.config)
            assert refused.returncode == 1 and said in refused.stderr and refused.stderr.count("\n") == 1
        assert inspectd("simcam", "fault", "clock", "-3", "-c", line.config).returncode == 0
        assert stop(daemon) == 0, line.log
    assert Counter(r.reason for r in journaled(line))[Reason.LOST] == 1


def test_cameras_features_and_snapshot(line: Line) -> None:
    line.write_sim('acquisition_frame_rate_hz = 50.0\npart_id = "counter"')
    assert "inspectd simcam SIM-cam0" in inspectd("check", "-c", line.config).stdout
    listed = inspectd("cameras", "--json", "-c", line.config)
    assert '"serial":"SIM-cam0"' in listed.stdout and '"access":"read/write"' in listed.stdout
    shown = inspectd("cameras", "features", "cam0", "-c", line.config)
    assert "ExposureTime" in shown.stdout and "1000000.0" in shown.stdout
    written = inspectd("cameras", "snapshot", "cam0", "-o", line.folder / "s.png", "-c", line.config)
    assert written.returncode == 0, written.stderr
    assert (line.folder / "s.png").stat().st_size > 100
    unknown = inspectd("cameras", "features", "side", "-c", line.config)
    assert unknown.returncode == 1 and "has no camera 'side'; it has cam0" in unknown.stderr
    daemon = line.start()
    with Results(line.endpoint) as subscriber:
        collect(subscriber, state_is("ContinuousExecution"))
        busy = inspectd("cameras", "snapshot", "cam0", "-c", line.config)
    assert busy.returncode == 69 and "the camera SIM-cam0 can't be opened (in use)" in busy.stderr
    assert stop(daemon) == 0


def test_a_producer_that_crashes_takes_only_its_own_process(line: Line, tmp_path: Path) -> None:
    crashing = tmp_path / "crash.cti"
    source = tmp_path / "crash.c"
    source.write_text("int GCInitLib(void) { return *(volatile int *)0; }\n")
    assert os.system(f"cc -shared -fPIC -o {crashing} {source}") == 0
    line.write()
    text = line.config.read_text()
    camera = (
        f'[[camera]]\nname = "bad"\nkind = "genicam"\ncti = "{crashing}"\nserial = "1"\nwidth = 64\nheight = 64\n'
    )
    line.config.write_text(text[: text.index("[[camera]]")] + camera)
    checked = inspectd("check", "-c", line.config)
    assert checked.returncode == 69 and "the GenTL producer crashed (SIGSEGV)" in checked.stderr
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, lambda e: bool(b := beats_of(e[-1:])) and "killed by SIGSEGV" in b[0].detail)
        assert daemon.poll() is None
        assert stop(daemon) == 0, line.log


def test_a_line_whose_silence_nothing_would_tell_is_said_so_at_the_start(line: Line) -> None:
    unseen = 'trigger = "line"\npart_id = "frame_id"'
    line.write_sim(unseen, unseen + "\nexpected_interval_s = 9.0", COUNTED)
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        assert stop(daemon) == 0
    assert line.log.count("nothing would tell") == 1


def test_mistakes_around_a_camera_that_editing_cures(line: Line) -> None:
    line.write_sim('core = 4000\npixel_format = "Mono8"')
    checked = inspectd("check", "-c", line.config)
    assert checked.returncode == 78 and "camera[0].core: this machine has no core 4000" in checked.stderr
    line.write_sim('pixel_format = "Mono16"')
    checked = inspectd("check", "-c", line.config)
    assert checked.returncode == 78 and "camera cam0: pixel format Mono16 can't be converted" in checked.stderr


def test_without_the_producer_the_folder_is_shown_and_it_says_so(line: Line) -> None:
    """As where no C compiler was at the installation: the extension is not found."""
    line.write_sim("acquisition_frame_rate_hz = 50.0")
    hidden = line.folder / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name.endswith('simcam._producer') else find(name, *a)\n"
    )
    daemon = line.start("--count", "10", env={"PYTHONPATH": str(hidden)})
    assert daemon.wait(30) == 0, line.log
    assert line.log.count("simcam was not built") == 1 and len(journaled(line)) >= 10
