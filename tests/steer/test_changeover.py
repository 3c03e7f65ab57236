"""Changes of recipe and model on a running line: real cameras, engine and subscribers; the test plays the part of
the daemon's main loop.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator

import pytest

from inspectd.daemon import Daemon
from inspectd.runtime.errors import ConfigError
from inspectd.runtime.frame import Reason, Verdict
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.ring import create
from inspectd.runtime.slots import Shape
from inspectd.settings import config
from inspectd.steer.changeover import Changeover, Phase
from inspectd.steer.line import KEPT_SETUPS
from inspectd.steer.setup import next_setup
from inspectd.subscribe import Missed, Received, Results
from inspectd.wire.results import Result
from tests.bundles import write_bundle
from tests.lines import HEIGHT, SPOT, WIDTH, Line, each, held

LIMITS = "[limits.spot]\nsuspect = 0.4\nreject = 0.6\nmin_area_px = 16\n"
BLIND = "[limits.spot]\nsuspect = 0.4\nreject = 0.6\nmin_area_px = 100000\n"
ROI = (32, 32, 96, 80)


def write_recipes(line: Line) -> None:
    """`dark` beside: blind to the spots, another model, a region, a feature, a model that will be damaged once the
    daemon runs, a colourless one.
    """
    write_bundle(line.folder / "other")
    write_bundle(line.folder / "grey", channels=1)
    shutil.copytree(line.folder / "dark", line.folder / "broken")
    for name, model, text in (
        ("blind", "dark", BLIND),
        ("swapped", "other", LIMITS),
        ("damaged", "broken", LIMITS),
        ("cut", "dark", f"{LIMITS}[camera.CAMERA]\nroi = {list(ROI)}\n"),
        ("bright", "dark", f"{LIMITS}[camera.CAMERA.features]\nGain = 2.0\n"),
        ("mono", "grey", LIMITS),
    ):
        (line.folder / f"{name}.toml").write_text(f'model = "{model}"\ndeadline_ms = 2000\n{text}')


NAMES = ("blind", "swapped", "damaged", "cut", "bright", "mono")


class PulsesOf:
    """Pulses on the trigger line of a simulated camera, about 50 a second."""

    def __init__(self, line: Line) -> None:
        self.rig, self._last_s = line.rig(), 0.0

    def __call__(self) -> None:
        if time.monotonic() > self._last_s + 0.02:
            self._last_s = time.monotonic()
            self.rig.pulse()


class Running:
    """A daemon whose main loop is this test."""

    def __init__(self, line: Line) -> None:
        camera = "cam0" if 'name = "cam0"' in line.config.read_text() else "top"
        for name in NAMES:
            path = line.folder / f"{name}.toml"
            path.write_text(path.read_text().replace("CAMERA", camera))
        names = ", ".join(f'"{name}.toml"' for name in NAMES)
        text = line.config.read_text().replace('["dark/recipe.toml"]', f'["dark/recipe.toml", {names}]')
        line.config.write_text(text)
        self.settings = config.load(line.config)
        self.recipes = {recipe.id: recipe for recipe in self.settings.recipes}
        self.subscriber = Results(line.endpoint)
        self.daemon = Daemon(self.settings, Handoff(), Handoff())
        (line.folder / "broken/model.onnx").write_bytes(b"not the file")
        self.pipeline, self.processes = self.daemon._pipeline, self.daemon._processes
        self.line, self.backends = self.daemon._line, self.daemon._line.backends
        self.results: list[Result] = []
        self.gaps = 0
        self.pulses: Callable[[], object] = lambda: None
        for stage in self.pipeline.stages:
            stage.start()

    def turn(self) -> None:
        self.pulses()
        for process in self.processes:
            if not process.source.finished:
                process.supervise(self.pipeline.changed.put)
        while event := self.subscriber.receive(0.005):
            if isinstance(event, Received):
                self.results.append(event.result)
            self.gaps += isinstance(event, Missed)

    def until(self, holds: Callable[[], object], seconds: float = 30) -> None:
        end_s = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end_s, self.results[-3:]
            self.turn()

    def more(self, count: int) -> list[Result]:
        """So many results from now on."""
        before = len(self.results)
        self.until(lambda: len(self.results) >= before + count)
        return self.results[before:]

    def change(self, name: str, from_part_id: int | None = None) -> Changeover:
        changeover = Changeover(self.line, self.processes, self.recipes[name], from_part_id)
        self.until(lambda: stepped(changeover))
        return changeover

    def ends(self) -> None:
        """Every part has its one result, those with a picture in order, and the books balance."""
        self.stop()
        seen = [result.part_id for result in self.results if result.image]
        assert seen == sorted(seen)
        part_ids = sorted(each(self.results, "part_id"))
        assert part_ids == list(range(part_ids[0], part_ids[0] + len(part_ids))) and self.gaps == 0
        books = self.daemon._ledger.read(0)
        assert books.balanced and books.in_flight == 0 and books.triggered == part_ids[-1]

    def stop(self) -> None:
        if self.pipeline.stages[0].is_alive():
            self.pulses, pulses = (lambda: None), self.pulses
            assert self.daemon._stop() == 0
            self.turn()
            self.pulses = pulses

    def close(self) -> None:
        self.stop()
        self.subscriber.close()


def stepped(changeover: Changeover) -> bool:
    """One step, and nothing to be written down."""
    done = changeover.step()
    if changeover.phase is Phase.COMMIT:
        changeover.commit()
    return done


@pytest.fixture
def running(line: Line) -> Iterator[Callable[[], Running]]:
    made: list[Running] = []
    write_recipes(line)

    def make() -> Running:
        made.append(Running(line))
        if 'trigger = "line"' in line.config.read_text():
            made[-1].until(lambda: made[-1].processes[0].source.state == "streaming")
            made[-1].pulses = PulsesOf(line)
        made[-1].more(3)
        return made[-1]

    yield make
    for one in made:
        one.close()
        if isinstance(one.pulses, PulsesOf):
            one.pulses.rig.close()


def by_recipe(results: list[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.recipe.id, []).append(result)
    return found


def test_limits_change_at_a_part_and_the_engine_stays(running: Callable[[], Running]) -> None:
    line = running()
    backend = line.line.setup.backend
    change = line.change("blind")
    assert (change.error, change.stopped) == ("", [])
    line.more(20)
    line.until(lambda: len(line.backends.setups) == 1)
    line.more(5)
    line.ends()
    found = by_recipe(line.results)
    assert list(found) == ["dark", "blind"]
    assert found["blind"][0].part_id == change.first["top"] == found["dark"][-1].part_id + 1
    assert {(r.part_id % 2, r.verdict) for r in found["dark"]} == {(0, Verdict.FAIL), (1, Verdict.PASS)}
    assert {r.verdict for r in found["blind"]} == {Verdict.PASS}
    assert found["blind"][0].recipe.revision == line.recipes["blind"].revision
    assert line.line.setup.backend is backend


def test_the_names_of_ever_more_setups_are_bounded_and_those_in_use_kept(running: Callable[[], Running]) -> None:
    run = running()
    for number in range(2, KEPT_SETUPS + 100):  # each is selected, and not one part comes in between
        run.line._name(run.line.setup._replace(number=number))
    setups = run.pipeline.publisher.setups
    assert len(setups) == KEPT_SETUPS + 1 and 1 in setups and KEPT_SETUPS + 99 in setups
    assert {result.recipe.id for result in run.more(3)} == {"dark"}
    run.ends()


def test_a_model_is_swapped_at_a_named_part(running: Callable[[], Running]) -> None:
    line = running()
    backend = line.line.setup.backend
    part_id = line.results[-1].part_id + 60
    change = line.change("swapped", part_id)
    assert (change.error, change.first) == ("", {"top": part_id})
    line.until(lambda: line.results[-1].part_id > part_id + 20)
    line.until(lambda: len(line.backends.setups) == 1)
    line.ends()
    found = by_recipe(line.results)
    assert found["dark"][-1].part_id + 1 == found["swapped"][0].part_id == part_id
    assert {r.model.name for r in found["dark"]} == {"dark"}
    assert {r.model.name for r in found["swapped"]} == {"other"}
    assert {r.verdict for r in line.results} == {Verdict.PASS, Verdict.FAIL}
    assert line.line.setup.backend is not backend


@pytest.mark.parametrize("kind", ["folder", "sim"])
def test_another_region_stops_the_camera_and_what_it_counts_meanwhile_is_not_ready(
    line: Line, running: Callable[[], Running], kind: str
) -> None:
    if kind == "sim":
        line.write_sim('trigger = "line"\npart_id = "counter"')
    run = running()
    run.more(20)
    change = run.change("cut")
    assert change.error == "" and change.stopped == ["cam0" if kind == "sim" else "top"]
    run.more(60)
    back = run.change("dark")
    assert back.error == ""
    run.more(60)
    run.until(lambda: len(run.backends.setups) == 1)
    run.ends()
    reasons = {result.reason for result in run.results}
    assert reasons - {Reason.LOST} == {Reason.NONE, Reason.DEFECT, Reason.NOT_READY}
    starting = each([result for result in run.results if result.reason is Reason.LOST])
    assert len(starting) <= 2  # counted in the instant in which the camera began: it has no frame of that one
    not_ready = [result for result in run.results if result.reason is Reason.NOT_READY]
    assert {result.detail for result in not_ready} == {f"the line changes to recipe {n}" for n in ("cut", "dark")}
    judged = by_recipe([result for result in run.results if result.reason in (Reason.NONE, Reason.DEFECT)])
    assert list(judged) == ["dark", "cut"]
    x, y, _, _ = SPOT  # in pixels of the whole sensor, whatever the region
    for results in judged.values():
        regions = [region for result in results for region in result.regions]
        assert regions and all(abs(r.bbox[0] - x) <= 4 and abs(r.bbox[1] - y) <= 4 for r in regions)


def test_a_camera_process_that_does_not_die_holds_up_no_change(line: Line, running: Callable[[], Running]) -> None:
    """It is given up, the line changes without it, and it has the new region when it is back."""
    run = running()
    process = run.processes[0]._process
    assert process is not None
    with held(line, process.pid):
        change = Changeover(run.line, run.processes, run.recipes["cut"])
        run.until(lambda: stepped(change) or change.phase is Phase.RESUME, seconds=120)
        assert (change.phase, run.line.in_use.recipe.id) == (Phase.RESUME, "cut")
        assert "does not end: a driver holds it" in run.processes[0].source.detail
    run.until(lambda: stepped(change), seconds=120)
    assert change.error == "" and change.first
    run.until(lambda: run.results[-1].image and run.results[-1].recipe.id == "cut")
    run.ends()


def test_a_camera_feature_is_set_anew(line: Line, running: Callable[[], Running]) -> None:
    line.write_sim('acquisition_frame_rate_hz = 50.0\npart_id = "counter"')
    run = running()
    change = run.change("bright")
    assert change.error == "" and change.stopped == ["cam0"]
    run.more(30)
    run.ends()
    assert run.line.setup.jobs[0].features == {"Gain": 2.0} == run.processes[0].source.job.features


def test_a_model_for_grey_pictures_finds_room_in_the_slots_for_coloured_ones(
    line: Line, running: Callable[[], Running]
) -> None:
    line.write_sim('acquisition_frame_rate_hz = 50.0\npart_id = "counter"')
    run = running()
    change = run.change("mono")
    assert run.line.setup.rings[0].shape == (HEIGHT, WIDTH, 1) and change.stopped == ["cam0"]
    run.change("dark")
    run.more(10)
    run.ends()


def test_a_damaged_model_changes_nothing(running: Callable[[], Running]) -> None:
    line = running()
    change = line.change("damaged")
    assert "broken/model.onnx: is not the file the manifest names" in change.error and not change.first
    line.more(20)
    line.ends()
    assert {(result.recipe.id, result.reason) for result in line.results} == {
        ("dark", Reason.NONE),
        ("dark", Reason.DEFECT),
    }
    assert len(line.backends.setups) == 0


def test_a_picture_without_room_is_refused(running: Callable[[], Running]) -> None:
    run = running()
    ring = create(2, Shape(64, 64, 3), "small")  # as if every recipe of the config cut so much away
    now = run.line.setup._replace(rings=[ring])
    with pytest.raises(ConfigError, match="put this recipe into `recipes` and restart the daemon"):
        next_setup(9, run.settings, run.recipes["cut"], now, run.backends)
    os.close(ring.fd)


def test_held_parts_are_not_ready_and_the_line_goes_on(running: Callable[[], Running]) -> None:
    line = running()
    line.line.hold("paused by anna: cleaning")
    line.more(20)
    line.line.hold("")
    line.more(20)
    line.ends()
    held = [result for result in line.results if result.reason is Reason.NOT_READY]
    assert len(held) >= 15 and {result.detail for result in held} == {"paused by anna: cleaning"}
    assert line.daemon._ledger.read(0).not_ready == len(held)


def test_the_daemon_can_stop_in_the_middle_of_a_change(line: Line, running: Callable[[], Running]) -> None:
    line.write_sim('acquisition_frame_rate_hz = 50.0\npart_id = "counter"')
    run = running()
    changeover = Changeover(run.line, run.processes, run.recipes["cut"])
    run.until(lambda: stepped(changeover) or run.processes[0].source.state != "streaming")
    changeover.abandon()
    run.ends()
