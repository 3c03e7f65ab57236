"""SIGHUP: a running daemon reads its files anew: all or nothing, and never what parts are judged by."""

import os
import pty
import shutil
import signal
import sys
import time
from collections.abc import Callable

import pytest

from tests.bundles import write_bundle
from tests.lines import Line, stop
from tests.steer.test_steering import TRIGGERED, Steered, steered, two_recipes

REFUSED = "all stays as it was"
TAKEN = "read anew"


def reload(run: Steered, said: str) -> str:
    """Have the daemon read its files anew; what it logs of it, once that has `said` in it."""
    before = len(run.line.log)
    run.daemon.send_signal(signal.SIGHUP)
    end_s = time.monotonic() + 60
    while said not in (log := run.line.log[before:]) or not log.endswith("\n"):
        assert time.monotonic() < end_s and run.daemon.poll() is None, run.line.log
        time.sleep(0.02)
    return log


def still_inspects(run: Steered, fire: Callable[[], object]) -> None:
    fire()
    assert run.result().recipe.id == "dark"
    assert run.ask("status")["ready"] and run.daemon.poll() is None


def edit(line: Line, file: str, old: str, new: str) -> None:
    text = (line.folder / file).read_text()
    assert old in text
    (line.folder / file).write_text(text.replace(old, new, 1))


BAD: dict[str, tuple[str, str, str, str]] = {
    "a typo in the config": ("config.toml", "width", "widht", "unknown key (did you mean width?)"),
    "no TOML": ("config.toml", 'line = "test"', 'line = "test', "not valid TOML"),
    "a typo in a recipe": ("other/recipe.toml", "suspect", "supsect", "unknown key (did you mean suspect?)"),
    "a class that the model lacks": ("other/recipe.toml", "limits.spot", "limits.dent", "names the class 'dent'"),
    "a recipe that is not there": ("config.toml", "other/recipe.toml", "none.toml", "the file does not exist"),
    "a model that is not there": ("other/recipe.toml", '"."', '"gone"', "there is no such model bundle"),
    "a key file that is not there": ("config.toml", "[publish]\n", "[publish]\nKEYS\n", "none.key_secret"),
}


@pytest.mark.parametrize("what", BAD)
def test_any_problem_on_the_disk_leaves_all_as_it_was(line: Line, what: str) -> None:
    file, old, new, said = BAD[what]
    keys = 'server_key = "none.key_secret"\nclient_keys = "none"'
    triggers = two_recipes(line)
    with steered(line) as run:
        edit(line, file, old, new.replace("KEYS", keys))
        log = reload(run, REFUSED)
        assert said in log and (f"{line.folder}/{file}" in log or what == "a key file that is not there"), log
        assert TAKEN not in log and "Traceback" not in log
        still_inspects(run, triggers.fire)
        assert run.ask("status")["recipes"] == ["dark", "other"]
        edit(line, file, new.replace("KEYS", keys), old)
        assert REFUSED not in reload(run, TAKEN)
        assert stop(run.daemon) == 0, line.log


def test_a_reload_of_a_line_without_keys_does_not_end_it(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        for _ in range(3):
            assert "recipes='dark, other'" in reload(run, TAKEN)
            still_inspects(run, triggers.fire)
        assert stop(run.daemon) == 0, line.log


def test_what_needs_a_restart_is_named_and_not_taken(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        edit(line, "config.toml", "width = 160", "width = 192\nspare_slots = 9")
        edit(
            line,
            "config.toml",
            "[publish]",
            "[engine]\nkind = 'openvino'\nthreads = 1\n[publish]\nheartbeat_ms = 100",
        )
        log = reload(run, TAKEN)
        for key in (
            "camera[0].width changed from 160 to 192",
            "camera[0].spare_slots changed from 4 to 9",
            "engine.threads changed from 0 to 1",
            "publish.heartbeat_ms changed from 200 to 100",
        ):
            assert f"{key}: needs a restart" in log
        still_inspects(run, triggers.fire)
        assert run.ask("status")["recipes"] == ["dark", "other"]
        assert stop(run.daemon) == 0, line.log


def test_a_recipe_that_was_added_may_be_selected(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        shutil.copytree(line.folder / "dark", line.folder / "third")
        edit(line, "config.toml", '"other/recipe.toml"', '"third/recipe.toml"')
        assert "third" in reload(run, TAKEN)
        assert run.ask("status")["recipes"] == ["dark", "third"]
        run.ask("select_recipe", recipe="third")
        triggers.fire()
        assert run.result().recipe.id == "third"
        assert "no recipe 'other'" in run.refused("select_recipe", recipe="other")
        edit(line, "config.toml", '"third/recipe.toml"', '"other/recipe.toml"')
        assert "third is in use and no longer in the config" in reload(run, TAKEN)
        assert stop(run.daemon) == 0, line.log


def test_an_edited_recipe_is_used_once_it_is_selected(line: Line) -> None:
    """A reload says so and changes nothing; `select` reads the file, reload or not."""
    triggers = two_recipes(line)
    with steered(line) as run:
        (before,) = [recipe["revision"] for recipe in [run.ask("status")["recipe"]]]
        edit(line, "dark/recipe.toml", "min_area_px = 16", "min_area_px = 100000")  # blind
        assert "recipe dark was changed: it is used once it is selected" in reload(run, TAKEN)
        triggers.fire()
        assert run.result().recipe.revision == before
        told = run.ask("select_recipe", recipe="dark")
        assert told["recipe"]["revision"] != before
        for _ in range(2):
            triggers.fire()
            result = run.result()
            assert (result.recipe.revision, result.verdict) == (told["recipe"]["revision"], "PASS")
        edit(line, "other/recipe.toml", "deadline_ms = 2000", "deadline_ms = 1999")
        first = run.ask("select_recipe", recipe="other")["recipe"]["revision"]
        edit(line, "other/recipe.toml", "deadline_ms = 1999", "deadline_ms = ")
        assert "not valid TOML" in run.refused("select_recipe", recipe="other")
        assert "recipe other was not selected" in run.until("Initialized")
        assert run.ask("status")["recipe"]["revision"] == first
        assert stop(run.daemon) == 0, line.log


def test_a_recipe_that_fits_only_the_changed_config_waits_for_the_restart(line: Line) -> None:
    triggers = two_recipes(line)
    with steered(line) as run:
        edit(line, "config.toml", "width = 160", "width = 320")
        with (line.folder / "other/recipe.toml").open("a") as file:
            file.write("[camera.top]\nroi = [160, 0, 160, 128]\n")
        log = reload(run, TAKEN)
        assert "camera[0].width changed from 160 to 320: needs a restart" in log
        assert "it fits the changed config only" in log
        still_inspects(run, triggers.fire)
        sentence = run.refused("select_recipe", recipe="other")
        assert "camera.top.roi: reaches outside the 160x128 image" in sentence
        assert stop(run.daemon) == 0, line.log


def test_a_recipe_with_larger_pictures_than_there_is_room_for_is_named(line: Line) -> None:
    write_bundle(line.folder / "grey", channels=1)
    line.write(TRIGGERED, "grey/recipe.toml")
    two = Steered(line)
    edit(line, "config.toml", '"grey/recipe.toml"', '"grey/recipe.toml", "dark/recipe.toml"')
    assert "recipe dark: its pictures are larger than there is room for" in reload(two, TAKEN)
    assert stop(two.daemon) == 0, line.log
    two.close()


def test_a_reload_while_a_bundle_hangs_and_a_stop_meanwhile(line: Line) -> None:
    """The files are read beside the line: it inspects on, and a stop does not wait for them."""
    triggers = two_recipes(line)
    with steered(line) as run:
        model = line.folder / "other/model.onnx"
        model.unlink()
        os.mkfifo(model)  # whoever reads it waits for a writer
        for _ in range(3):
            run.daemon.send_signal(signal.SIGHUP)
            still_inspects(run, triggers.fire)
        assert stop(run.daemon) == 0, line.log
        assert "Traceback" not in line.log


def test_a_terminal_that_is_closed_ends_the_daemon_in_it(line: Line) -> None:
    """There SIGHUP is no wish to read files anew: nobody would see the daemon that goes on."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "inspectd", "run", "-c", str(line.config)]
    controlled = (
        f"import fcntl, os, termios; fcntl.ioctl(0, termios.TIOCSCTTY); os.execv({command[0]!r}, {command!r})"
    )
    with (line.folder / "log").open("a") as log:
        daemon = line.spawn(
            [sys.executable, "-c", controlled], stdin=theirs, stdout=log, stderr=log, start_new_session=True
        )
    os.close(theirs)
    while "ready" not in line.log:
        assert daemon.poll() is None, line.log
        time.sleep(0.05)
    daemon.send_signal(signal.SIGHUP)
    while TAKEN not in line.log:
        assert daemon.poll() is None, line.log
        time.sleep(0.05)
    os.close(ours)
    assert daemon.wait(60) == 0, line.log
    assert "the terminal is gone" in line.log
