"""Steering a real daemon through its control socket."""

import json
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from inspectd.publish.journal.records import read_entries
from inspectd.runtime.books import Ledger
from inspectd.runtime.durable import UnwritableError
from inspectd.runtime.errors import UserError
from inspectd.runtime.frame import Judgement, Reason, Verdict
from inspectd.settings.config import load
from inspectd.steer.audit import Audit, Change
from inspectd.steer.selection import Selection, keep_selection, load_selection
from inspectd.subscribe import Control, RefusedError, Results
from inspectd.wire.results import Result, decode_result
from tests.acquire.sims import needs_simcam
from tests.bundles import write_bundle
from tests.lines import Line, Triggers, beats_of, camera_process_of, collect, results_of, state_is, stop

TRIGGERED = 'trigger_counter = "triggers"'


class Steered:
    """A line with two recipes whose daemon runs, somebody who steers it, and somebody who listens."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.control = Control(f"ipc://{line.folder}/control", "test")
        self.subscriber = Results(line.endpoint)
        self.daemon = self.start()

    def start(self) -> subprocess.Popen[str]:
        while self.subscriber.receive(0.1):
            pass  # what the daemon before still said: it is not the new one's state
        self.daemon = self.line.start()
        collect(self.subscriber, lambda events: bool(beats_of(events[-1:])))
        return self.daemon

    def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        return self.control.request(verb, 30, **fields)

    def refused(self, verb: str, **fields: Any) -> str:
        with pytest.raises(RefusedError) as told:
            self.ask(verb, **fields)
        return str(told.value)

    def until(self, state: str) -> str:
        """Wait for a state in the heartbeat; what it says of it."""
        return beats_of(collect(self.subscriber, state_is(state)))[-1].detail

    def result(self) -> Result:
        """The next one."""
        return results_of(collect(self.subscriber, lambda events: bool(results_of(events))))[0].result

    @property
    def audit(self) -> list[dict[str, Any]]:
        path = self.line.state_dir / "audit.jsonl"
        return [json.loads(row) for row in path.read_text().splitlines()] if path.exists() else []

    @property
    def kept(self) -> dict[str, Any]:
        return json.loads((self.line.state_dir / "selection.json").read_text())

    def close(self) -> None:
        self.control.close()
        self.subscriber.close()


def two_recipes(line: Line, camera: str = TRIGGERED) -> Triggers:
    write_bundle(line.folder / "other")
    line.write(camera, 'dark/recipe.toml", "other/recipe.toml')
    return Triggers(line.folder / "triggers")


@contextmanager
def steered(line: Line) -> Iterator[Steered]:
    made = Steered(line)
    try:
        made.until("ContinuousExecution")
        yield made
    finally:
        made.close()


def test_status_tells_what_there_is(line: Line) -> None:
    two_recipes(line).fire()
    with steered(line) as run:
        told = run.ask("status")
        assert (told["state"], told["ready"], told["hold"], told["journal"]) == (
            "ContinuousExecution", True, "", "ok",
        )  # fmt: skip
        assert told["recipe"]["id"] == told["model"]["name"] == "dark" and told["recipes"] == ["dark", "other"]
        assert told["cameras"]["top"]["balanced"] and told["preparing"] == ""
        assert run.audit == []
        assert stop(run.daemon) == 0, line.log


def test_paused_parts_are_not_ready_until_resumed(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        hold = run.ask("pause", why="lunch")["hold"]
        assert hold == "paused by test: lunch"
        triggers.fire()
        held = run.result()
        assert (held.verdict, held.reason, held.detail) == (Verdict.UNKNOWN, Reason.NOT_READY, hold)
        assert run.until("Ready") == hold
        assert run.ask("pause", why="again")["hold"] == hold  # it is paused: nothing changes
        assert run.ask("resume") == {"state": "ContinuousExecution"}
        triggers.fire()
        assert run.result().reason in (Reason.NONE, Reason.DEFECT)
        run.until("ContinuousExecution")
        assert [(c["verb"], c["old"], c["new"]) for c in run.audit] == [("pause", "", hold), ("resume", hold, "")]
        assert stop(run.daemon) == 0, line.log


def test_a_change_is_in_the_audit_log(line: Line) -> None:
    two_recipes(line)
    with steered(line) as run:
        run.ask("select_recipe", recipe="other")
        (change,) = run.audit
        assert change.keys() == {"when", "who", "client", "id", "verb", "old", "new", "outcome"}
        assert (change["who"], change["client"], change["verb"]) == ("local", "test", "select_recipe")
        assert change["old"]["recipe"].startswith("dark ") and change["new"] == "recipe other"
        assert change["outcome"] == "done" and change["when"].endswith("+00:00")


def test_selecting_a_recipe_switches_between_two_parts(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        triggers.fire()
        assert run.result().recipe.id == "dark"
        told = run.ask("select_recipe", recipe="other")
        assert told["switched"] == "between two parts" and told["first_part_ids"] == {"top": 2}
        assert told["recipe"]["id"] == told["model"]["name"] == "other" and told["hold"] == ""
        triggers.fire()
        result = run.result()
        assert result.part_id == 2 and result.recipe.id == result.model.name == "other"
        assert run.kept["recipe"] == "other"
        assert stop(run.daemon) == 0, line.log


def test_a_recipe_from_a_named_part_on(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        assert run.ask("select_recipe", recipe="other", from_part_id=3)["first_part_ids"] == {"top": 3}
        told = run.ask("status")
        assert (told["recipe"]["id"], told["waiting"]) == ("dark", {"recipe": "other", "from_part_id": 3})
        run.ask("select_recipe", recipe="other", from_part_id=3)
        assert [change["old"]["recipe"][:5] for change in run.audit] == ["dark ", "dark "]
        used = []
        for _ in range(4):
            triggers.fire()
            used.append(run.result().recipe.id)
        assert used == ["dark", "dark", "other", "other"]
        told = run.ask("status")
        assert (told["recipe"]["id"], told["waiting"]) == ("other", None)
        run.ask("swap_model", model="dark")
        assert run.kept["from_part_id"] == 0


def test_a_recipe_that_waits_for_its_part_is_not_forgotten_for_one_of_a_later_part(line: Line) -> None:
    triggers = two_recipes(line)
    write_bundle(line.folder / "third")
    line.write(TRIGGERED, 'dark/recipe.toml", "other/recipe.toml", "third/recipe.toml')
    with steered(line) as run:
        run.ask("select_recipe", recipe="other", from_part_id=3)
        sentence = run.refused("select_recipe", recipe="third", from_part_id=5)
        assert sentence == (
            "nothing was changed: recipe other waits for part 3, and only one can wait: select third when that "
            "part has come, or first select dark without a part, which cancels it"
        )
        assert run.ask("status")["waiting"] == {"recipe": "other", "from_part_id": 3}
        assert run.ask("status")["ready"]
        used = []
        for _ in range(4):
            triggers.fire()
            used.append(run.result().recipe.id)
        assert used == ["dark", "dark", "other", "other"]
        assert run.ask("select_recipe", recipe="third", from_part_id=6)["first_part_ids"] == {"top": 6}
        for _ in range(2):
            triggers.fire()
            used.append(run.result().recipe.id)
        assert used[4:] == ["other", "third"]
        assert stop(run.daemon) == 0, line.log


@pytest.mark.parametrize("part_id", [None, 3, 4])
def test_what_cancels_a_recipe_that_waits_says_so(line: Line, part_id: int | None) -> None:
    """A selection from now on, or from an earlier part on, holds for all that come: nothing else can wait then."""
    triggers = two_recipes(line)
    with steered(line) as run:
        assert run.ask("select_recipe", recipe="other", from_part_id=4)["cancelled"] is None
        fields = {} if part_id is None else {"from_part_id": part_id}
        told = run.ask("select_recipe", recipe="dark", **fields)
        assert told["cancelled"] == {"recipe": "other", "from_part_id": 4}
        assert run.audit[-1]["new"].endswith("; cancelled: recipe other from part 4 on")
        used = []
        for _ in range(5):
            triggers.fire()
            used.append(run.result().recipe.id)
        assert used == ["dark"] * 5
        assert run.ask("select_recipe", recipe="other")["cancelled"] is None
        assert stop(run.daemon) == 0, line.log


def test_a_part_that_has_been_is_no_part_to_wait_for(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        triggers.fire()
        run.result()
        assert run.ask("select_recipe", recipe="other", from_part_id=1)["first_part_ids"] == {"top": 2}
        told = run.ask("status")
        assert (told["recipe"]["id"], told["waiting"]) == ("other", None)
        for _ in range(3):  # and not one part in between
            run.ask("select_recipe", recipe="other", from_part_id=1)
        collect(run.subscriber, lambda e: bool(beats := beats_of(e[-1:])) and beats[0].recipe.id == "other")
        assert stop(run.daemon) == 0, line.log


def test_a_doubtful_start_is_held_until_somebody_resumes(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        run.ask("select_recipe", recipe="other", from_part_id=3)
        stop(run.daemon, signal.SIGKILL)
        run.start()
        detail = run.until("Initialized")
        assert "was to be used from part 3 on" in detail and "resume with other" in detail
        for _ in range(3):
            triggers.fire()
            assert run.result().reason is Reason.NOT_READY
        stop(run.daemon, signal.SIGKILL)
        run.start()  # part 3 has been
        assert run.until("Initialized") == detail
        run.ask("resume")
        triggers.fire()
        assert run.result().recipe.id == "other"


def test_a_doubtful_start_that_cant_be_kept_is_kept_with_the_next_change(line: Line) -> None:
    two_recipes(line)
    in_the_way = line.state_dir / "selection.new"
    in_the_way.mkdir(parents=True)
    (line.state_dir / "selection.json").write_text("{")
    run = Steered(line)
    assert "can't be read" in run.until("Initialized") and "selection.new" not in run.until("Initialized")
    assert (line.state_dir / "selection.json").read_text() == "{"
    in_the_way.rmdir()
    run.ask("pause")
    assert "can't be read" in run.kept["failed"]
    run.close()


def test_swapping_a_model_before_a_named_part_leaves_the_parts_before_alone(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        run.ask("select_recipe", recipe="other", from_part_id=2)
        assert run.ask("swap_model", model="dark")["first_part_ids"] == {"top": 2}
        triggers.fire()
        assert run.result().recipe.id == "dark"
        triggers.fire()
        result = run.result()
        assert (result.recipe.id, result.model.name) == ("other", "dark")


def test_a_recipe_with_another_region_stops_the_cameras(line: Line) -> None:
    triggers = two_recipes(line)
    recipe = line.folder / "other/recipe.toml"
    recipe.write_text(recipe.read_text() + "[camera.top]\nroi = [32, 32, 96, 80]\n")
    with steered(line) as run:
        sentence = run.refused("select_recipe", recipe="other", from_part_id=5)
        assert "cameras must be stopped for it (top), which can't wait for part 5" in sentence
        told = run.ask("select_recipe", recipe="other")
        assert told["switched"] == "with cameras stopped" and told["stopped"] == ["top"] and told["hold"] == ""
        run.until("ContinuousExecution")
        triggers.fire()
        results = [run.result()]
        while results[-1].frame_id < triggers.count:
            results.append(run.result())
        assert results[-1].recipe.id == "other" and results[-1].reason is not Reason.NOT_READY
        assert stop(run.daemon) == 0, line.log


@pytest.mark.alone
def test_a_stop_while_a_camera_is_stopped_for_a_recipe_judges_no_part_by_the_old_one(tmp_path: Path) -> None:
    """The camera comes back to say what it owes; parts that come meanwhile are of the new product."""
    for n in range(20):  # on a busy machine most stops come after the change
        kept = stopped_in_a_change(tmp_path / str(n))
        reasons = [result.reason for result in kept]
        assert Reason.NOT_READY in reasons, "the stop came before the change"
        after = kept[reasons.index(Reason.NOT_READY) :]
        if after[0].recipe.id == "dark":  # else the stop came after the change
            break
    assert {(result.recipe.id, result.reason) for result in after} == {("dark", Reason.NOT_READY)}


def stopped_in_a_change(folder: Path) -> list[Result]:
    """What the journal of a daemon holds that was stopped as soon as its camera had ended for another recipe."""
    folder.mkdir()
    line = Line(folder)
    try:
        two_recipes(line, "acquisition_frame_rate_hz = 100.0")
        recipe = line.folder / "other/recipe.toml"
        recipe.write_text(recipe.read_text() + "[camera.top]\nroi = [64, 0, 96, 80]\n")
        with steered(line) as run:
            camera = camera_process_of(run.daemon)
            asking = threading.Thread(target=lambda: run.refused("select_recipe", recipe="other"))
            asking.start()
            until_s = time.monotonic() + 20
            while not has_ended(camera) and time.monotonic() < until_s:
                time.sleep(0.0005)
            assert stop(run.daemon) == 0, line.log
            asking.join(20)
        return [decode_result(entry.body) for entry in read_entries(line.state_dir / "journal")]
    finally:
        line.close()


@pytest.mark.parametrize("delay_ms", [0, 4, 10])
def test_a_stop_in_the_middle_of_a_change_closes_what_two_recipes_share_once(line: Line, delay_ms: int) -> None:
    text = (line.folder / "dark/recipe.toml").read_text().replace('model = "."', 'model = "dark"')
    (line.folder / "strict.toml").write_text(text.replace("suspect = 0.4", "suspect = 0.3"))
    line.write("acquisition_frame_rate_hz = 100.0", 'dark/recipe.toml", "strict.toml')
    with steered(line) as run:
        (before,) = results_of(collect(run.subscriber, results_of))
        asking = threading.Thread(target=lambda: suppressed(run.ask, "select_recipe", recipe="strict"))
        asking.start()
        while "preparing" not in line.log and asking.is_alive():
            time.sleep(0.001)
        time.sleep(delay_ms / 1e3)  # any moment of the change will do
        assert stop(run.daemon) == 0, line.log
        asking.join(30)
        assert "stage failed" not in line.log and "Traceback" not in line.log
        run.start()
        (after,) = results_of(collect(run.subscriber, results_of))
        assert after.header.epoch == before.header.epoch  # the journal was closed: its numbers go on
        assert stop(run.daemon) == 0, line.log


def suppressed(call: Callable[..., object], *arguments: Any, **fields: Any) -> None:
    """Call it; the daemon that is asked may refuse, or end before it has answered."""
    with suppress(UserError):
        call(*arguments, **fields)


def has_ended(pid: int | None) -> bool:
    """A process, though nobody may have waited for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # reaped, even while it was read
        return True


def test_another_first_recipe_in_the_config_is_a_hold(line: Line) -> None:
    two_recipes(line)
    with steered(line) as run:
        run.ask("select_recipe", recipe="dark")
        assert stop(run.daemon) == 0
        line.write(TRIGGERED, 'other/recipe.toml", "dark/recipe.toml')
        run.start()
        assert "recipe dark was in use, the config begins with another now" in run.until("Initialized")
        run.ask("resume")
        assert run.ask("status")["recipe"]["id"] == "other"


def test_a_recipe_that_cant_be_had_leaves_the_line_not_ready(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        (line.folder / "other/model.onnx").write_bytes(b"broken")
        sentence = run.refused("select_recipe", recipe="other")
        assert sentence.startswith("recipe other was not selected: ") and "model.onnx" in sentence
        assert "recipe other was not selected" in run.until("Initialized")
        triggers.fire()
        result = run.result()
        assert result.reason is Reason.NOT_READY and result.recipe.id == "dark"
        assert "no recipe 'third'" in run.refused("select_recipe", recipe="third")
        assert "without from_part_id" in run.refused("select_recipe", recipe="dark", from_part_id=9)
        assert [c["outcome"][:8] for c in run.audit] == ["failed: "]
        assert "recipe other was not selected" in run.until("Initialized")
        run.ask("select_recipe", recipe="dark")
        run.until("ContinuousExecution")
        triggers.fire()
        assert run.result().reason is not Reason.NOT_READY


def test_an_id_that_the_config_does_not_have_is_refused_and_changes_nothing(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        run.ask("select_recipe", recipe="other", from_part_id=3)
        before, written = run.ask("status"), run.audit
        kept = run.kept
        for more in ({}, {"from_part_id": 9}):
            assert run.refused("select_recipe", recipe="othre", **more) == (
                "nothing was changed: there is no recipe 'othre' in the config; there is dark, other"
            )
        after = run.ask("status")
        same = ("state", "ready", "hold", "recipe", "model", "waiting", "preparing")
        assert [after[key] for key in same] == [before[key] for key in same]
        assert after["ready"] and run.audit == written and run.kept == kept
        for part in (1, 2, 3):
            triggers.fire()
            result = run.result()
            assert result.reason in (Reason.NONE, Reason.DEFECT)
            assert result.recipe.id == ("other" if part == 3 else "dark")
        assert stop(run.daemon) == 0, line.log


def test_a_failed_selection_is_held_over_a_restart_until_resumed(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        (line.folder / "other/recipe.toml").write_text("model = ")
        run.refused("select_recipe", recipe="other")
        (line.folder / "other/recipe.toml").write_text((line.folder / "dark/recipe.toml").read_text())
        stop(run.daemon, signal.SIGKILL)
        run.start()
        assert "recipe other was not selected" in run.until("Initialized")
        run.ask("resume")
        run.until("ContinuousExecution")
        triggers.fire()
        assert run.result().recipe.id == "dark"


def test_a_model_is_swapped_and_one_that_fails_is_rolled_back(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        told = run.ask("swap_model", model="other")
        assert told["model"]["name"] == "other" and told["recipe"]["id"] == "dark"
        triggers.fire()
        assert run.result().model.name == "other"
        write_bundle(line.folder / "lies")
        shutil.copy(line.folder / "lies/golden/0.png", line.folder / "lies/golden/0.scores.png")
        assert run.refused("swap_model", model="lies").startswith("the model was not swapped: ")
        manifest = write_bundle(line.folder / "blind") / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"unproven": "it finds nothing"}))
        assert "is unproven: it finds nothing. To inspect" in run.refused("swap_model", model="blind")
        assert "no such model" in run.refused("swap_model", model="nowhere")
        assert "File name too long); check `model`" in run.refused("swap_model", model="x" * 300)
        assert "Traceback" not in line.log
        assert run.ask("status")["ready"] and run.kept["model"] == "other"
        assert run.kept["recipe"] == run.kept["first"] == "dark"
        triggers.fire()
        assert run.result().model.name == "other"


def test_what_was_selected_survives_a_kill(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        run.ask("select_recipe", recipe="other")
        run.ask("swap_model", model="dark")
        run.ask("pause", why="night")
        stop(run.daemon, signal.SIGKILL)
        run.start()
        assert run.until("Ready") == "paused by test: night"
        told = run.ask("status")
        assert (told["recipe"]["id"], told["model"]["name"]) == ("other", "dark")
        run.ask("resume")
        triggers.fire()
        result = run.result()
        assert (result.recipe.id, result.model.name) == ("other", "dark") and result.reason is not Reason.NOT_READY


def test_a_selected_recipe_that_the_config_lost_is_a_hold(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        run.ask("select_recipe", recipe="other")
        assert stop(run.daemon) == 0
        line.write(TRIGGERED)
        run.start()
        assert "recipe other was in use and the config no longer has it" in run.until("Initialized")
        triggers.fire()
        assert run.result().reason is Reason.NOT_READY
        run.ask("resume")
        triggers.fire()
        assert run.result().recipe.id == "dark"
        assert (run.kept["recipe"], run.kept["failed"]) == ("dark", "")


def test_a_swapped_model_that_is_gone_is_a_hold(line: Line) -> None:
    two_recipes(line)
    with steered(line) as run:
        run.ask("swap_model", model="other")
        assert stop(run.daemon) == 0
        shutil.rmtree(line.folder / "other")
        line.write(TRIGGERED)
        run.start()
        detail = run.until("Initialized")
        assert "model other was in use and can't be loaded" in detail
        assert "resume with recipe dark and its own model" in detail
        assert run.ask("status")["model"]["name"] == "dark"
        write_bundle(line.folder / "other")
        stop(run.daemon, signal.SIGKILL)
        run.start()  # nobody has resumed
        assert run.until("Initialized") == detail and run.ask("status")["model"]["name"] == "dark"


def test_a_swapped_model_that_an_edited_recipe_does_not_fit_is_a_hold(line: Line) -> None:
    two_recipes(line)
    with steered(line) as run:
        run.ask("swap_model", model="other")
        assert stop(run.daemon) == 0
        shutil.rmtree(line.folder / "dark")
        write_bundle(line.folder / "dark", classes=("spot", "dent"))
        run.start()
        detail = run.until("Initialized")
        assert "model other was in use and can't be loaded" in detail and "names the class 'dent'" in detail
        assert run.ask("status")["model"]["name"] == "dark"
        run.ask("resume")
        assert stop(run.daemon) == 0, line.log


def test_a_swap_does_not_end_a_hold_and_says_so(line: Line) -> None:
    triggers = two_recipes(line)
    write_bundle(line.folder / "third")
    with steered(line) as run:
        (line.folder / "other/recipe.toml").write_text("model = ")
        told = run.refused("select_recipe", recipe="other")
        after = "no part is judged until another recipe is selected, or `resume`"
        for _ in range(2):
            hold = run.ask("swap_model", model="third")["hold"]
            assert hold == told.replace(after, "another model was swapped in since: resume goes on with that one")
        collect(run.subscriber, lambda events: bool(b := beats_of(events[-1:])) and b[0].detail == hold)
        triggers.fire()
        assert run.result().detail == hold and run.kept["failed"] == hold
        run.ask("resume")
        assert run.ask("swap_model", model="other")["hold"] == ""
        triggers.fire()
        assert run.result().model.name == "other"
        assert stop(run.daemon) == 0, line.log


def test_only_one_thing_is_prepared_at_a_time(line: Line) -> None:
    two_recipes(line)
    with steered(line) as run, zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"ipc://{line.folder}/control")
        for n, recipe in enumerate(["other", "dark"]):
            dealer.send_json({"id": str(n), "client": "me", "verb": "select_recipe", "recipe": recipe})
        answers = {a["id"]: a for a in [json.loads(dealer.recv()) for _ in range(2)]}
        assert answers["0"]["ok"] and not answers["1"]["ok"]
        assert "recipe other is being prepared for me" in answers["1"]["error"]
        assert run.ask("status")["recipe"]["id"] == "other"


def test_nothing_changes_that_cant_be_audited(line: Line) -> None:
    two_recipes(line)
    (line.state_dir / "audit.jsonl").mkdir(parents=True)
    with steered(line) as run:
        nothing_can_be_written_but_a_pause(run)
        told = run.ask("status")
        assert told["recipe"]["id"] == "dark" and run.kept["recipe"] == ""


def nothing_can_be_written_but_a_pause(run: Steered) -> None:
    requests = [("select_recipe", {"recipe": "other"}), ("select_recipe", {"recipe": "third"})]
    requests += [("swap_model", {"model": "other"}), ("reset_counters", {})]
    for verb, fields in requests:
        sentence = run.refused(verb, **fields)
        assert sentence.startswith("nothing was changed: the audit log") and "can't be written" in sentence
    assert run.ask("status")["ready"] and not (run.line.state_dir / "selection.json").exists()
    told = run.ask("pause")
    assert told["hold"] == "paused by test" and "audit.jsonl can't be written" in told["problem"]
    assert run.until("Ready") == run.kept["paused"] == "paused by test"
    assert "audit.jsonl can't be written" in run.refused("resume") and not run.ask("status")["ready"]


def test_on_a_full_disk_nothing_changes_but_a_pause(line: Line) -> None:
    two_recipes(line)
    with steered(line) as run:
        size = 100 * 2**20  # more than any other file here
        with (line.state_dir / "audit.jsonl").open("wb") as file:
            file.truncate(size)
        resource.prlimit(run.daemon.pid, resource.RLIMIT_FSIZE, (size + 10, size + 10))
        nothing_can_be_written_but_a_pause(run)
        assert (line.state_dir / "audit.jsonl").stat().st_size == size


def test_what_is_written_down_and_cant_be_kept_has_a_second_line(line: Line) -> None:
    two_recipes(line)
    in_the_way = line.state_dir / "selection.new"
    with steered(line) as run:
        run.ask("pause")
        in_the_way.mkdir()
        assert run.refused("resume").startswith("nothing was changed: ") and not run.ask("status")["ready"]
        assert "selection.json can't be written" in run.refused("swap_model", model="other")
        outcomes = [(c["verb"], c["outcome"].split(":")[0]) for c in run.audit]
        assert outcomes[:3] == [("pause", "done"), ("resume", "done"), ("resume", "failed")]
        assert ("swap_model", "failed") in outcomes[4:]
        in_the_way.rmdir()
        run.ask("resume")
        assert run.kept["paused"] == ""
        in_the_way.mkdir()
        assert "selection.json can't be written" in run.ask("pause", why="now")["problem"]
        run.until("Ready")
        in_the_way.rmdir()
        assert run.ask("pause")["problem"] == "" and run.kept["paused"] == "paused by test: now"


def test_a_failed_selection_is_kept_even_if_it_cant_be_audited(line: Line) -> None:
    two_recipes(line)
    model = line.folder / "other/model.onnx"
    with steered(line) as run:
        model.unlink()
        os.mkfifo(model)  # whoever reads it waits for a writer
        asking = threading.Thread(target=run.refused, args=("select_recipe",), kwargs={"recipe": "other"})
        asking.start()
        with model.open("wb"):  # it is being prepared
            (line.state_dir / "audit.jsonl").unlink()
            (line.state_dir / "audit.jsonl").mkdir()
        asking.join(20)
        assert "recipe other was not selected" in run.until("Initialized") == run.kept["failed"]


def test_counters_begin_anew_under_load_and_balance(line: Line) -> None:
    two_recipes(line, "acquisition_frame_rate_hz = 200.0")
    with steered(line) as run:
        for _ in range(8):
            run.ask("reset_counters")
            events = collect(run.subscriber, lambda events: len(beats_of(events)) >= 2)
            for beat in beats_of(events):
                assert beat.cameras["top"].balanced, beat
            assert beats_of(events)[-1].cameras["top"].books.triggered < 400
        assert stop(run.daemon) == 0, line.log
        view = beats_of(collect(run.subscriber, state_is("Halted")))[-1].cameras["top"]
        assert view.balanced


def test_resent_after_a_broken_connection_it_is_executed_once(line: Line) -> None:
    two_recipes(line)
    with steered(line) as run, zmq.Context() as context:
        body = json.dumps({"id": "x", "client": "me", "verb": "reset_counters"}).encode()
        for _ in range(3):
            with context.socket(zmq.DEALER) as dealer:
                dealer.connect(f"ipc://{line.folder}/control")
                dealer.send(body)
                assert dealer.poll(5000) and json.loads(dealer.recv())["ok"]
        assert len(run.audit) == 1


def test_a_request_when_the_daemon_ends_is_answered(line: Line) -> None:
    two_recipes(line)
    with steered(line) as run:
        answered = []

        def ask_on() -> None:
            with Control(f"ipc://{line.folder}/control", "other") as control:
                try:
                    while True:
                        answered.append(control.request("pause", 3)["hold"])
                except UserError as error:
                    answered.append(str(error))

        asking = threading.Thread(target=ask_on)
        asking.start()
        until_s = time.monotonic() + 20
        while len(answered) < 12 and time.monotonic() < until_s:
            time.sleep(0.01)
        assert stop(run.daemon) == 0, line.log
        asking.join(20)
        assert len(answered) > 10 and ("the daemon ends" in answered[-1] or "no " in answered[-1]), answered[-1]


@needs_simcam
def test_a_software_trigger_brings_its_part_ref_into_its_result(line: Line) -> None:
    line.write_sim('trigger = "software"', 'trigger = "line"')
    with steered(line) as run:
        assert "no camera 'top'" in run.refused("trigger", camera="top")
        assert 'needs trigger = "software"' in run.refused("trigger", camera="cam1")
        seen = {}
        for n in range(30):
            told = run.ask("trigger", camera="cam0", part_ref=f"part {n}")
            seen[told["frame_id"]] = told["part_ref"]
        while len(seen) > 0:
            result = run.result()
            assert result.camera == "cam0" and result.part_ref == seen.pop(result.frame_id)
            assert result.reason in (Reason.NONE, Reason.DEFECT)
        assert stop(run.daemon) == 0, line.log
    entries = [decode_result(e.body) for e in read_entries(line.state_dir / "journal")]
    assert [e.part_ref for e in entries] == [f"part {n}" for n in range(30)]


@needs_simcam
def test_software_triggers_on_command_beside_a_rate(line: Line) -> None:
    line.write_sim('trigger = "software"\nacquisition_frame_rate_hz = 50.0')
    with steered(line) as run:
        told = [run.ask("trigger", camera="cam0", part_ref=f"{n}") for n in range(10)]
        events = collect(run.subscriber, lambda e: any(r.result.part_ref == "9" for r in results_of(e)))
        assert stop(run.daemon) == 0, line.log
    assert events
    entries = [decode_result(e.body) for e in read_entries(line.state_dir / "journal")]
    named = {e.frame_id: e.part_ref for e in entries if e.part_ref}
    assert named == {t["frame_id"]: t["part_ref"] for t in told} and len(entries) > len(named)


@needs_simcam
def test_a_camera_that_is_away_is_not_triggered(line: Line) -> None:
    line.write_sim('trigger = "software"')
    with steered(line) as run, line.rig() as rig:
        run.ask("trigger", camera="cam0", part_ref="before")
        rig.unplug(3.0)
        run.until("Preoperational")
        assert "cam0 was not triggered" in run.refused("trigger", camera="cam0", part_ref="away")
        run.until("ContinuousExecution")
        run.ask("trigger", camera="cam0", part_ref="after")
        assert stop(run.daemon) == 0, line.log
    entries = [decode_result(e.body) for e in read_entries(line.state_dir / "journal")]
    assert [e.part_ref for e in entries] == ["before", "after"]


# ---- without a daemon ----


@needs_simcam
def test_a_trigger_that_the_camera_can_not_take_in_time_is_never_sent(line: Line) -> None:
    line.write_sim('trigger = "software"')
    with steered(line) as run:
        camera = camera_process_of(run.daemon)
        assert camera is not None
        os.kill(camera, signal.SIGSTOP)
        told: list[str] = []
        asking = threading.Thread(
            target=lambda: told.append(run.refused("trigger", camera="cam0", part_ref="late"))
        )
        asking.start()
        time.sleep(1.0)
        os.kill(camera, signal.SIGCONT)
        asking.join(20)
        assert "could not take it within 0.5 s" in told[0]
        sent = run.ask("trigger", camera="cam0", part_ref="in time")
        assert sent["frame_id"] == 1 and run.result().part_ref == "in time"
        assert stop(run.daemon) == 0, line.log


def test_a_reset_keeps_what_is_in_flight() -> None:
    ledger = Ledger(1)
    for _ in range(5):
        ledger.trigger(0, None)
    ledger.trigger(0, Reason.LOST)
    ledger.publish(0, Judgement(Verdict.PASS, Reason.NONE))
    before = ledger.read(0)
    assert ledger.reset() == [before]
    books = ledger.read(0)
    assert (books.triggered, books.received, books.in_flight, books.lost, books.passed) == (4, 4, 4, 0, 0)
    for _ in range(4):
        ledger.publish(0, Judgement(Verdict.PASS, Reason.NONE))
    assert ledger.read(0).balanced and ledger.read(0).in_flight == 0


def test_a_recipe_for_a_later_part_is_in_doubt_after_a_restart(line: Line) -> None:
    two_recipes(line)
    settings = load(line.config)
    settings.state_dir.mkdir(parents=True)
    keep_selection(settings.state_dir, Selection("other", "dark", from_part_id=10))
    early = load_selection(settings, {"top": 8})
    assert "from part 10 on" in early.selection.failed and early.settings.recipe.id == "other"
    late = load_selection(settings, {"top": 9})
    assert late.selection.hold == "" and late.settings.recipe.id == "other"


def test_a_model_without_the_recipe_it_was_for_is_a_hold(line: Line) -> None:
    settings = load(line.config)
    settings.state_dir.mkdir(parents=True)
    keep_selection(settings.state_dir, Selection(model="other"))
    start = load_selection(settings, {})
    assert "resume with dark and its own model" in start.selection.failed
    assert start.selection.model == "" and start.settings.recipe.model_dir == settings.recipe.model_dir


def test_files_that_others_may_make_wait_are_refused(line: Line) -> None:
    """FIFOs, whose reader or writer never comes."""
    settings = load(line.config)
    settings.state_dir.mkdir(parents=True)
    for name in ("selection.json", "audit.jsonl"):
        os.mkfifo(settings.state_dir / name)
    start = load_selection(settings, {})
    assert "selection.json can't be read (it is no regular file)" in start.selection.failed
    audit = Audit(settings.state_dir / "audit.jsonl")
    change = Change("local", "me", "1", "pause", "", "x", "done")
    for call in (audit.check, lambda: audit.write(change)):
        with pytest.raises(UnwritableError, match=r"audit\.jsonl can't be written: "):
            call()
    reader = os.open(settings.state_dir / "audit.jsonl", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(UnwritableError, match=r"audit\.jsonl can't be written: it is no regular file"):
        audit.write(change)
    os.close(reader)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"recipe": 3}', b'{"recipes": "a"}', b"\xff"])
def test_a_damaged_selection_is_a_hold(line: Line, text: bytes) -> None:
    settings = load(line.config)
    settings.state_dir.mkdir(parents=True)
    (settings.state_dir / "selection.json").write_bytes(text)
    start = load_selection(settings, {})
    assert "selection.json can't be read" in start.selection.failed and start.settings.recipe.id == "dark"


def test_an_audit_line_after_a_torn_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"who":"loc')
    audit = Audit(path)
    audit.check()
    audit.write(Change("local", "me", "1", "pause", "", "x", "done"))
    torn, whole = path.read_bytes().splitlines()
    assert torn == b'{"who":"loc' and msgspec.json.decode(whole, type=Change).verb == "pause"
