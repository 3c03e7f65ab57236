"""All recipes of a config are held against their models at the start, and by `check`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inspectd.runtime.errors import ConfigError
from inspectd.settings import config
from inspectd.steer.recipes import check_recipes
from tests.acquire.sims import needs_simcam
from tests.bundles import write_bundle
from tests.lines import Line, inspectd

LIMITS = "[limits.spot]\nsuspect = 0.4\nreject = 0.6\n"
RECIPE = f'model = "dark"\ndeadline_ms = 100\n{LIMITS}'


def second(line: Line, text: str, *cameras: str) -> None:
    """Give the line a second recipe, `two.toml`."""
    (line.folder / "two.toml").write_text(text)
    if cameras:
        line.write_sim(*cameras)
    line.config.write_text(line.config.read_text().replace('"]', '", "two.toml"]', 1))


def not_the_file(folder: Path) -> None:
    write_bundle(folder / "other")
    (folder / "other/golden/0.png").write_bytes(b"?")


def mistakes(stderr: str) -> list[str]:
    """What was said, without the log of how far the start has come."""
    return [row for row in stderr.splitlines() if "[info" not in row]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            RECIPE + "[limits.dent]\nsuspect = 0.4\nreject = 0.6\n",
            "two.toml:6:9: limits.dent: names the class 'dent', which the model does not know; it knows spot",
        ),
        (
            RECIPE + "[camera.top.zones.seal]\npolygon = [[0, 0], [9, 0], [9, 9]]\n"
            "limits.dent = { suspect = 0.4, reject = 0.6 }\n",
            "two.toml:8:8: camera.top.zones.seal.limits.dent: names the class 'dent', which the model does not "
            "know; it knows spot",
        ),
        (
            RECIPE.replace("spot", "dent").replace('"dark"', '"nowhere"'),
            "two.toml:1:1: model: {}/nowhere: there is no such model bundle; check `model` in the recipe",
        ),
        (
            RECIPE.replace('"dark"', '"other"'),
            "two.toml:1:1: model: {}/other/golden/0.png: is not the file the manifest names",
        ),
        (
            RECIPE + '[camera.top.features]\n"Exposure Time" = 3.0\n',
            'two.toml:7:1: camera.top.features."Exposure Time": no GenICam feature can have this name',
        ),
        (
            RECIPE + "[camera.top]\nignore = [[[0, 0], [9, 0], [9, 9]], [[500, 0], [600, 0], [600, 9]]]\n",
            "two.toml:7:37: camera.top.ignore[1]: lies outside the 160x128 image",
        ),
        (
            RECIPE + "[camera.top]\nroi = [0, 0, 64, 64]\n[camera.top.zones.seal]\n"
            "polygon = [[64, 0], [99, 0], [99, 9]]\nlimits = {}\n",
            "two.toml:9:1: camera.top.zones.seal.polygon: lies outside what is judged, [0, 0, 64, 64] "
            "(x, y, width, height): no region would belong to it",
        ),
    ],
)
def test_what_is_wrong_with_a_second_recipe_is_said_by_check_and_start(line: Line, text: str, said: str) -> None:
    not_the_file(line.folder)
    second(line, text)
    for command in ("check", "run"):
        shown = inspectd(command, "-c", line.config)
        assert shown.returncode == 78, shown.stderr
        (sentence,) = mistakes(shown.stderr)
        assert sentence.startswith(f"{line.folder}/" + said.format(line.folder)), shown.stderr
    assert not (line.state_dir / "journal").exists()  # a start that can't be leaves nothing behind but the lock


def test_the_problems_of_all_recipes_are_told_at_once(line: Line) -> None:
    second(line, RECIPE + "[limits.dent]\nsuspect = 0.4\nreject = 0.6\n")
    recipe = line.folder / "dark/recipe.toml"
    recipe.write_text(recipe.read_text().replace("limits.spot", "limits.hole"))
    with pytest.raises(ConfigError) as told:
        check_recipes(config.load(line.config))
    assert [problem.split(": ")[1] for problem in told.value.problems] == ["limits", "limits.hole", "limits.dent"]


def test_a_pixel_format_that_cant_be_converted(line: Line) -> None:
    write_bundle(line.folder / "grey", channels=1)
    second(line, RECIPE.replace('"dark"', '"grey"'), 'pixel_format = "RGB8"')
    check_recipes(config.load(line.config))  # it becomes grey
    second(line, RECIPE.replace('"dark"', '"grey"'), 'pixel_format = "YUV422_8"')
    with pytest.raises(ConfigError, match=r"two.toml: camera cam0: pixel format YUV422_8 can't be converted"):
        check_recipes(config.load(line.config))


@needs_simcam
def test_check_tries_the_features_of_every_recipe_at_the_camera(line: Line) -> None:
    second(line, RECIPE + "[camera.cam0.features]\nGian = 2.0\n", "", "")
    shown = inspectd("check", "-c", line.config)
    assert shown.returncode == 69
    assert "camera cam0: inspectd simcam" in shown.stdout and "camera cam1: inspectd simcam" in shown.stdout
    assert shown.stderr.startswith("inspectd: camera cam0, recipe two: ") and "Gian" in shown.stderr


def test_check_tries_every_model_and_names_every_recipe(line: Line) -> None:
    write_bundle(line.folder / "other")
    second(line, RECIPE.replace('"dark"', '"other"'))
    shown = inspectd("check", "-c", line.config)
    assert shown.returncode == 0, shown.stderr
    assert "two.toml: recipe two " in shown.stdout
    assert shown.stdout.count("golden test within") == 2


def test_recipes_are_checked_without_an_engine(line: Line) -> None:
    """Their models are read and hashed, not opened: a start with twenty recipes more costs no warm-up more."""
    program = (
        "import sys; from pathlib import Path; from inspectd.settings import config; "
        "from inspectd.steer.recipes import check_recipes; "
        "found = check_recipes(config.load(Path(sys.argv[1]))); print(len(found), 'openvino' in sys.modules)"
    )
    second(line, RECIPE)
    shown = subprocess.run([sys.executable, "-c", program, line.config], capture_output=True, text=True)
    assert (shown.stdout.split(), shown.stderr) == (["2", "False"], "")


def test_a_model_that_is_unproven_is_refused_unless_the_config_allows_it(line: Line) -> None:
    manifest = line.folder / "dark/manifest.json"
    said = json.loads(manifest.read_text())
    manifest.write_text(
        json.dumps(said | {"unproven": "it finds none of the 9 defective dev parts; train it longer"})
    )
    for command in ("check", "run"):
        shown = inspectd(command, "-c", line.config)
        assert shown.returncode == 78 and len(mistakes(shown.stderr)) == 1
        assert "recipe.toml:1:1: model: " in shown.stderr and "allow_unproven = true" in shown.stderr, shown.stderr
        assert "is unproven: it finds none of the 9 defective dev parts; train it longer. To" in shown.stderr
    line.config.write_text(f"allow_unproven = true\n{line.config.read_text()}")
    assert inspectd("check", "-c", line.config).returncode == 0
