"""What `inspectd check` warns of, and what it looks at beside a running daemon."""

from pathlib import Path

import pytest

from inspectd.subscribe import Results
from tests.acquire.sims import needs_simcam
from tests.lines import Line, collect, inspectd, state_is, stop

RECIPE = 'model = "dark"\ndeadline_ms = 2000\n[limits.spot]\nsuspect = 0.4\nreject = 0.6\n'
ALL = "[[-1, -1], [200, -1], [200, 200], [-1, 200]]"
TOP = "[camera.top]\n"
DOUBTS = {
    "ignore over the whole picture": (
        f"{TOP}ignore = [{ALL}]\n",
        "7:1: camera.top.ignore: covers all that is judged, [0, 0, 160, 128]: every part passes; make it smaller",
    ),
    "ignore over the whole roi": (
        f"{TOP}roi = [0, 0, 64, 64]\nignore = [[[0, 0], [64, 0], [64, 64], [0, 64]]]\n",
        "8:1: camera.top.ignore: covers all that is judged, [0, 0, 64, 64]: every part passes; make it smaller",
    ),
    "a zone that its box alone has in the picture": (
        f"{TOP}zones.a.polygon = [[-300, 0], [160, 460], [-300, 460]]\nzones.a.limits = {{}}\n",
        "7:9: camera.top.zones.a.polygon: holds no cell that is judged and in no zone before it: its limits are "
        "never used; move it, or take it out",
    ),
    "a zone under another": (
        f"{TOP}zones.a.polygon = {ALL}\nzones.a.limits = {{}}\nzones.b.polygon = {ALL}\nzones.b.limits = {{}}\n",
        "9:9: camera.top.zones.b.polygon: holds no cell that is judged and in no zone before it",
    ),
    "a zone under what is ignored": (
        f"{TOP}ignore = [[[0, 0], [99, 0], [99, 99], [0, 99]]]\n"
        "zones.a.polygon = [[8, 8], [80, 8], [80, 80]]\nzones.a.limits = {}\n",
        "8:9: camera.top.zones.a.polygon: holds no cell that is judged",
    ),
    "features of a folder": (
        f"{TOP}features.ExposureTime = 500.0\n",
        "7:1: camera.top.features: a camera of kind folder has none: take them out, or use kind sim or genicam",
    ),
    "a deadline below what the engine needs": (
        "",
        "2:1: deadline_ms: the network alone needs ",
    ),
    "an area that no region reaches": (
        "min_area_px = 20481\n",
        "6:1: limits.spot.min_area_px: no region can be larger than 20480 px: none counts, every part passes; "
        "lower it",
    ),
    "a limit that no region breaks": (
        "max_count = 1\nmax_length_px = 206\n",
        "7:1: limits.spot.max_length_px: no region can be longer than 204.9 px: this limit is never broken",
    ),
    "a limit of a roi that no region breaks": (
        f"{TOP}roi = [0, 0, 64, 64]\nzones.a.polygon = {ALL}\n"
        "zones.a.limits.spot = { suspect = 0.4, reject = 0.6, max_count = 2, max_area_px = 4096 }\n",
        "9:69: camera.top.zones.a.limits.spot.max_area_px: no region can be larger than 4096 px",
    ),
    "a limit beside none allowed": (
        "max_area_px = 100\n",
        "6:1: limits.spot.max_area_px: does nothing: by max_count = 0 one defect is too many; raise that, or",
    ),
    "the largest below the least": (
        "max_count = 2\nmin_area_px = 50\nmax_area_px = 20\n",
        "8:1: limits.spot.max_area_px: is below min_area_px (50): each region that counts breaks it; raise it",
    ),
    "more than are described": (
        "max_count = 64\n",
        "6:1: limits.spot.max_count: more regions than max_regions (64) are UNKNOWN: so many are never counted",
    ),
    "no brightness is fit": (
        "[image]\nmin_mean = 200\nmax_mean = 100\n",
        "7:1: image.min_mean: is above max_mean: no picture is fit, every part is UNKNOWN; exchange them",
    ),
    "no picture is so sharp": (
        "[image]\nmin_sharpness = 70000\n",
        "7:1: image.min_sharpness: no picture is sharper than 65025: none is fit, every part is UNKNOWN; lower it",
    ),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_what_makes_everything_pass_or_nothing_possible_is_a_warning(line: Line, name: str) -> None:
    more, said = DOUBTS[name]
    recipe = RECIPE.replace("2000", "0.0001") if "deadline" in name else RECIPE
    (line.folder / "two.toml").write_text(recipe + more)
    line.write(recipe="two.toml")
    shown = inspectd("check", "-c", line.config)
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr.startswith(f"warning: {line.folder}/two.toml:{said}") and shown.stderr.count("\n") == 1
    strict = inspectd("check", "-c", line.config, "--strict")
    assert strict.returncode == 1
    assert strict.stderr.splitlines()[1:] == ["inspectd: 1 warning, and --strict lets none pass"]


def test_limits_in_mm_are_held_against_the_picture_in_mm(line: Line) -> None:
    (line.folder / "two.toml").write_text(RECIPE + "max_count = 2\nmax_length_mm = 10\nmin_area_mm2 = 62\n")
    line.write("mm_per_px = [0.05, 0.06]", recipe="two.toml")
    assert inspectd("check", "-c", line.config).stderr.splitlines() == [
        f"warning: {line.folder}/two.toml:{said}"
        for said in (
            "8:1: limits.spot.min_area_mm2: no region can be larger than 61.44 mm2: none counts, every "
            "part passes; lower it",
        )
    ]
    (line.folder / "two.toml").write_text(RECIPE + "max_count = 2\nmax_length_mm = 12\nmin_area_mm2 = 1\n")
    (told,) = inspectd("check", "-c", line.config).stderr.splitlines()
    assert "7:1: limits.spot.max_length_mm: no region can be longer than 11.09 mm" in told


def test_what_is_meant_is_no_warning(line: Line) -> None:
    recipe = line.folder / "dark/recipe.toml"
    recipe.write_text(
        recipe.read_text() + "max_count = 2\nmax_area_px = 500\nmax_length_px = 60\n[image]\nmin_mean = 20\n"
        "max_mean = 250\nmin_sharpness = 0.1\n[camera.top]\nroi = [8, 8, 140, 110]\n"
        "ignore = [[[100, 0], [160, 0], [160, 60]]]\n[camera.top.zones.seal]\n"
        "polygon = [[20, 70], [90, 70], [90, 120]]\nlimits.spot = { suspect = 0.2, reject = 0.3 }\n"
    )
    shown = inspectd("check", "-c", line.config, "--strict")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "140x110 takes " in shown.stdout


def test_the_warnings_of_every_recipe_and_the_daemons_log(line: Line) -> None:
    (line.folder / "two.toml").write_text(RECIPE + f"{TOP}ignore = [{ALL}]\n")
    line.write("acquisition_frame_rate_hz = 50.0\nloop = false", recipe='dark/recipe.toml", "two.toml')
    said = f"{line.folder}/two.toml:7:1: camera.top.ignore: covers all that is judged"
    assert said in inspectd("check", "-c", line.config).stderr
    assert said in inspectd("run", "-c", line.config).stderr


@needs_simcam
def test_beside_a_daemon_that_has_the_cameras(line: Line) -> None:
    line.write_sim("", "")
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        shown = inspectd("check", "-c", line.config)
        assert shown.returncode == 69
        assert shown.stderr == (
            f"inspectd: the daemon of line test (process {daemon.pid}) has the cameras open (cam0, cam1): check "
            "everything else with --no-cameras, or stop it first\n"
        )
        without = inspectd("check", "-c", line.config, "--no-cameras")
        assert (without.returncode, without.stderr) == (0, "")
        assert "golden test within" in without.stdout and "cam0" not in without.stdout
        collect(subscriber, state_is("ContinuousExecution"))
        assert stop(daemon) == 0, line.log
    assert "camera trouble" not in line.log
    shown = inspectd("check", "-c", line.config)
    assert (shown.returncode, shown.stderr) == (0, "") and "camera cam1: " in shown.stdout


def test_without_cameras_all_else_is_checked(line: Line, tmp_path: Path) -> None:
    line.config.write_text(line.config.read_text().replace('folder = "parts"', 'folder = "gone"'))
    assert inspectd("check", "-c", line.config).returncode == 69
    assert inspectd("check", "-c", line.config, "--no-cameras").returncode == 0
    (line.folder / "dark/model.onnx").write_bytes(b"broken")
    shown = inspectd("check", "-c", line.config, "--no-cameras")
    assert shown.returncode == 78 and "model.onnx" in shown.stderr
