"""The rules across fields and across files; how mistakes in a single value are told is in test_toml.py."""

import hashlib
import re
from pathlib import Path

import pytest

from inspectd.runtime.errors import ConfigError
from inspectd.settings.camera import FolderCamera, GenicamCamera
from inspectd.settings.config import load, view_of
from inspectd.settings.engine import TensorRtEngine
from inspectd.settings.fit import read_recipe
from inspectd.settings.recipe import Recipe, View, load_recipe

CONFIG = """
line = "line1"
recipes = ["screw.toml"]
[[camera]]
kind = "folder"
name = "top"
width = 640
height = 480
folder = "parts"
"""
RECIPE = """
model = "models/screw"
deadline_ms = 100
[limits.spot]
suspect = 0.4
reject = 0.6
"""
SIDE = '[[camera]]\nkind = "genicam"\nname = "side"\nwidth = 640\nheight = 480\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "screw.toml").write_text(RECIPE)
    return tmp_path


def problems(folder: Path, config: str = CONFIG, recipe: str = RECIPE) -> list[str]:
    """The mistakes in these files, without the folder's name."""
    (folder / "config.toml").write_text(config)
    (folder / "screw.toml").write_text(recipe)
    with pytest.raises(ConfigError) as caught:
        load(folder / "config.toml")
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def problem(folder: Path, config: str = CONFIG, recipe: str = RECIPE) -> str:
    """The one mistake, without its place."""
    (found,) = problems(folder, config, recipe)
    return found.partition(": ")[2]


def test_good_files(folder: Path) -> None:
    settings = load(folder / "config.toml")
    config, loaded = settings.config, settings.recipe
    assert config.line == "line1"
    (camera,) = config.camera
    assert camera == FolderCamera(name="top", width=640, height=480, folder="parts")
    assert (config.publish.results, config.publish.heartbeat_ms) == ("tcp://127.0.0.1:5556", 200)
    assert settings.base == folder
    assert settings.state_dir == folder / "state" / "line1"
    assert loaded.model_dir == folder / "models/screw"
    assert loaded.recipe.limits["spot"].max_count == 0


@pytest.mark.parametrize(
    ("publish", "images"),
    [
        ("", "state/line1/images"),
        ("results = 'ipc://run/results'\n", "run/images"),
        ("images = 'pictures'\n", "pictures"),
        ("results = 'ipc://run/results'\nimages = '/run/pictures'\n", "/run/pictures"),
    ],
)
def test_where_the_image_socket_is(folder: Path, publish: str, images: str) -> None:
    (folder / "config.toml").write_text(CONFIG + "[publish]\n" + publish)
    assert load(folder / "config.toml").config.publish.images == str(folder / images)


@pytest.mark.parametrize(
    ("publish", "said"),
    [
        (f"images = '{'x' * 108}'\n", "the path is longer than 107 bytes"),
        ("results = 'ipc://run/images'\n", "run/images is the path of publish.results, give it another"),
    ],
)
def test_an_image_socket_that_cannot_be(folder: Path, publish: str, said: str) -> None:
    (told,) = problems(folder, CONFIG + "[publish]\n" + publish)
    assert told.startswith("config.toml: publish.images: ") and told.endswith(said)


def test_the_folder_of_plans_is_relative_to_the_config(folder: Path) -> None:
    (folder / "config.toml").write_text(CONFIG + "[engine]\nkind = 'tensorrt'\nplans = 'p'\n")
    engine = load(folder / "config.toml").config.engine
    assert engine == TensorRtEngine(plans=str(folder / "p"))


def test_paths_are_relative_to_their_own_file(folder: Path) -> None:
    (folder / "products").mkdir()
    (folder / "products/nut.toml").write_text(RECIPE.replace("models/screw", "../models/nut"))
    (folder / "config.toml").write_text(
        CONFIG.replace("screw.toml", "products/nut.toml") + "[journal]\nsegments = 4\n"
    )
    settings = load(folder / "config.toml")
    assert settings.recipe.model_dir.resolve() == folder / "models/nut"
    assert settings.recipe.id == "nut"
    config = CONFIG.replace('line = "line1"', 'line = "line1"\nstate_dir = "/var/lib/inspectd"')
    (folder / "config.toml").write_text(config)
    assert load(folder / "config.toml").state_dir == Path("/var/lib/inspectd/line1")


def test_the_first_recipe_is_in_use_and_all_are_checked(folder: Path) -> None:
    (folder / "nut.toml").write_text(RECIPE)
    both = CONFIG.replace('["screw.toml"]', '["nut.toml", "screw.toml"]')
    (folder / "config.toml").write_text(both)
    assert load(folder / "config.toml").recipe.id == "nut"
    assert problems(folder, both, "model = 1\n")[0].startswith("screw.toml:1:1: model: expected text")


def test_a_recipes_revision_is_its_content(folder: Path) -> None:
    first = load_recipe(folder / "screw.toml")
    assert first.revision == hashlib.sha256(RECIPE.encode()).hexdigest()[:12]
    (folder / "copy.toml").write_text(RECIPE)
    assert load_recipe(folder / "copy.toml").revision == first.revision
    (folder / "screw.toml").write_text(RECIPE + "# a remark\n")
    assert load_recipe(folder / "screw.toml").revision != first.revision


def test_a_bundles_own_recipe_is_called_after_the_bundle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "ballscrew").mkdir()
    (folder / "ballscrew/recipe.toml").write_text(RECIPE.replace("models/screw", "."))
    loaded = load_recipe(folder / "ballscrew/recipe.toml")
    assert (loaded.id, loaded.model_dir.resolve()) == ("ballscrew", folder / "ballscrew")
    monkeypatch.chdir(folder / "ballscrew")
    assert load_recipe(Path("recipe.toml")).id == "ballscrew"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "top"', 'name = "part"', "camera[0]: the camera name 'part' is reserved, choose another"),
        ("width = 640", "width = 63", "camera[0].width: expected a whole number ≥ 64 and ≤ 65536, got 63"),
        (
            'line = "line1"',
            'line = "Line 1"',
            "line: expected a name of a to z, 0 to 9, - and _ (at most 32 characters",
        ),
        ("[[camera]]", "[camera]", "camera: each is a table of its own: write [[camera]], in double brackets"),
        (
            CONFIG,
            CONFIG + "mm_per_px = [0.1]\n",
            "camera[0].mm_per_px: expected a list of numbers (2 elements), got",
        ),
        (CONFIG, CONFIG + "mm_per_px = [0.1, 0]\n", "camera[0].mm_per_px[1]: expected a number > 0"),
        (
            CONFIG,
            CONFIG + "stall_ms = 500\n",
            "camera[0].stall_ms: unknown key (there is stall_s, which has another",
        ),
        (CONFIG, CONFIG + CONFIG[CONFIG.index("[[camera") :], "camera[1].name: two cameras are named 'top'"),
        (
            CONFIG,
            CONFIG + SIDE,
            "camera[1]: name the device by exactly one of `serial`, `user_id`, or",
        ),
        (CONFIG, CONFIG + SIDE + 'serial = "1"\nuser_id = "a"\n', "name the device by exactly one of"),
        (CONFIG, CONFIG + "[engine]\nkind = 'cuda'\n", "engine"),
        (CONFIG, CONFIG + "[engine]\nkind = 'tensorrt'\ndevice = -1\n", "engine.device"),
        (CONFIG, CONFIG + "[engine]\nkind = 'tensorrt'\nthreads = 2\n", "engine.threads: unknown key"),
        (CONFIG, CONFIG + "[engine]\nkind = 'tensorrt'\nprecision = 'fp8'\n", "engine.precision"),
        (CONFIG, CONFIG + "[engine]\nkind = 'tensorrt'\nbuild_timeout_s = 0\n", "engine.build_timeout_s"),
        ('["screw.toml"]', "[]", "recipes: expected"),
    ],
)
def test_rules_of_the_config(folder: Path, old: str, new: str, said: str) -> None:
    assert said in problem(folder, config=CONFIG.replace(old, new))


@pytest.mark.parametrize(
    "name",
    ["serial", "user_id"],
)
def test_a_genicam_camera_is_named_by_one(folder: Path, name: str) -> None:
    (folder / "config.toml").write_text(CONFIG + SIDE + f'{name} = "7"\n')
    assert isinstance(load(folder / "config.toml").config.camera[1], GenicamCamera)


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://127.0.0.1:5556", "tcp://127.1.2.3:1", "tcp://localhost:65533", "tcp://[::1]:5556", "ipc://x"],
)
def test_endpoints_that_may_be_bound(folder: Path, endpoint: str) -> None:
    (folder / "config.toml").write_text(f'{CONFIG}[publish]\nresults = "{endpoint}"\n')
    assert load(folder / "config.toml").config.publish.results == endpoint.replace("ipc://", f"ipc://{folder}/")


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        *((e, f"results: other machines can reach {e}: set server_key and client_keys") for e in (
            "tcp://*:5556", "tcp://0.0.0.0:5556", "tcp://192.168.1.2:5556", "tcp://[::]:5556", "tcp://eth0:5556",
            "tcp://localhost.evil.org:5556",
        )),
        *((e, "results must look like tcp://127.0.0.1:5556 or ipc://path, got") for e in (
            "", "ipc://", "127.0.0.1:5556", "tcp://127.0.0.1", "tcp://127.0.0.1:0", "tcp://127.0.0.1:65536",
            "tcp://127.0.0.1:http", "tcp://:5556", "udp://127.0.0.1:5556", "inproc://x", "tcp://127.0.0.1:-1",
        )),
    ],
)  # fmt: skip
def test_endpoints_that_may_not_be_bound(folder: Path, endpoint: str, said: str) -> None:
    assert said in problem(folder, config=f'{CONFIG}[publish]\nresults = "{endpoint}"\n')


KEYS = 'server_key = "own.key_secret"\nclient_keys = "clients"\n'


@pytest.mark.parametrize("also", [KEYS, "allow_insecure = true\n"])
@pytest.mark.parametrize("endpoint", ["tcp://*:5556", "tcp://192.168.1.2:5556", "tcp://eth0:5556"])
def test_other_machines_are_let_in_by_key_or_on_purpose(folder: Path, endpoint: str, also: str) -> None:
    (folder / "config.toml").write_text(f'{CONFIG}[publish]\nresults = "{endpoint}"\n{also}')
    publish = load(folder / "config.toml").config.publish
    assert publish.results == endpoint
    if publish.server_key:
        assert (publish.server_key, publish.client_keys) == (f"{folder}/own.key_secret", f"{folder}/clients")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (KEYS.splitlines()[0], "publish: server_key needs client_keys beside it"),
        (KEYS.splitlines()[1], "publish: client_keys needs server_key beside it"),
        (
            KEYS + "allow_insecure = true",
            "publish: server_key and allow_insecure exclude each other: leave one out",
        ),
    ],
)
def test_rules_of_the_keys(folder: Path, keys: str, said: str) -> None:
    assert problem(folder, config=f"{CONFIG}[publish]\n{keys}\n") == said


ROI = "roi must be [x >= 0, y >= 0, width >= 64, height >= 64], got"


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("[limits.crack]\nsuspect = 0.7\nreject = 0.6\n", "suspect (0.7) must not be above reject (0.6)"),
        ("[limits.crack]\nsuspect = 0.003\nreject = 0.6\n", "limits.crack.suspect: expected a number ≥ 0.004"),
        ("[camera.side]\n", "camera.side: there is no such camera; there is top"),
        ("[camera.top]\nroi = [0, 0, 641, 480]\n", "camera.top.roi: reaches outside the 640x480 image"),
        ("[camera.top]\nroi = [577, 0, 64, 480]\n", "camera.top.roi: reaches outside the 640x480 image"),
        ("[camera.top]\nroi = [0, 417, 64, 64]\n", "camera.top.roi: reaches outside the 640x480 image"),
        ("[camera.top]\nroi = [0, 0, 63, 64]\n", f"{ROI} [0, 0, 63, 64]"),
        ("[camera.top]\nroi = [-1, 0, 64, 64]\n", f"{ROI} [-1, 0, 64, 64]"),
        ("[camera.top]\nignore = [[[0, 0], [1, 1]]]\n", "camera.top.ignore[0]: expected"),
        (
            "[camera.top.zones.a]\npolygon = [[0, 0], [9, 0], [9, 9]]\n",
            "camera.top.zones.a.limits: key is missing",
        ),
    ],
)
def test_rules_of_a_recipe(folder: Path, added: str, said: str) -> None:
    found = problems(folder, recipe=RECIPE + added)
    assert len(found) == 1
    assert found[0].startswith("screw.toml")
    assert said in found[0]


NESTED = "expected lists nested 3 deep, as in [[[x, y], …], …], got"


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("ignore = [[0, 0], [9, 0], [9, 9], [0, 9]]\n", f"camera.top.ignore: {NESTED} 2: mind the brackets"),
        ("ignore = [0, 0, 9, 0, 9, 9]\n", f"camera.top.ignore: {NESTED} 1: mind the brackets"),
        ("ignore = [[[[0, 0], [9, 0], [9, 9]]]]\n", f"camera.top.ignore: {NESTED} 4: mind the brackets"),
        (
            "zones.a = { limits = {}, polygon = [0, 0, 9, 0, 9, 9] }\n",
            "camera.top.zones.a.polygon: expected lists nested 2 deep, as in [[x, y], …], "
            "got 1: mind the brackets",
        ),
    ],
)
def test_a_polygon_that_is_not_nested_is_one_mistake(folder: Path, added: str, said: str) -> None:
    assert problem(folder, recipe=RECIPE + "[camera.top]\n" + added) == said


NO_SCALE = "has no mm_per_px: set it in the config, or give"


@pytest.mark.parametrize(
    ("config", "added", "said"),
    [
        ("", "max_length_mm = 3\n", f"7:1: limits.spot.max_length_mm: camera top {NO_SCALE} max_length_px here"),
        ("", "min_area_mm2 = 3\n", f"7:1: limits.spot.min_area_mm2: camera top {NO_SCALE} min_area_px here"),
        (
            "mm_per_px = 0.1\n",
            "max_length_mm = 3\nmax_length_px = 30\n",
            "4:9: limits.spot: max_length_px and max_length_mm are one limit in two units: leave one of them out",
        ),
        (
            'mm_per_px = 0.1\n[[camera]]\nkind = "folder"\nname = "side"\nwidth = 64\nheight = 64\nfolder = "x"\n',
            "max_area_mm2 = 3\n",
            "7:1: limits.spot.max_area_mm2: camera side has no mm_per_px: set it in the ",
        ),
        (
            "",
            "[camera.top.zones.a]\npolygon = [[0, 0], [99, 0], [99, 99]]\n"
            "limits.spot = { suspect = 0.1, reject = 0.2, max_area_mm2 = 1 }\n",
            "9:46: camera.top.zones.a.limits.spot.max_area_mm2: camera top has no mm_per_px",
        ),
        ("", "max_length_cm = 3\n", "7:1: limits.spot.max_length_cm: unknown key"),
        (
            "",
            "max_area_mm = 3\n",
            "limits.spot.max_area_mm: unknown key (there is max_area_mm2, which has another unit)",
        ),
    ],
)
def test_limits_in_mm_need_a_scale(folder: Path, config: str, added: str, said: str) -> None:
    (told,) = problems(folder, CONFIG + config, RECIPE + added)
    assert told.startswith("screw.toml:") and said in told and "did you mean" not in told


@pytest.mark.parametrize(
    ("number", "scale"), [("0.1", (0.1, 0.1)), ("2", (2.0, 2.0)), ("[0.05, 0.06]", (0.05, 0.06))]
)
def test_the_scale_of_a_camera(folder: Path, number: str, scale: tuple[float, float]) -> None:
    (folder / "config.toml").write_text(f"{CONFIG}mm_per_px = {number}\n")
    (folder / "screw.toml").write_text(RECIPE + "max_length_mm = 3\nmin_area_mm2 = 0.1\nmax_area_px = 99\n")
    settings = load(folder / "config.toml")
    assert settings.config.camera[0].scale == scale
    assert settings.recipe.recipe.limits["spot"].in_mm == ["min_area_mm2", "max_length_mm"]
    again = read_recipe(folder / "screw.toml", settings.cameras)  # as `select` reads it
    assert again.recipe == settings.recipe.recipe


def test_a_roi_may_reach_the_edge(folder: Path) -> None:
    (folder / "screw.toml").write_text(RECIPE + "[camera.top]\nroi = [576, 416, 64, 64]\n")
    settings = load(folder / "config.toml")
    view, rect = view_of(settings.recipe.recipe, settings.config.camera[0])
    assert view.roi == rect == (576, 416, 64, 64)


def test_a_camera_that_the_recipe_does_not_name_is_judged_whole(folder: Path) -> None:
    settings = load(folder / "config.toml")
    assert view_of(settings.recipe.recipe, settings.config.camera[0]) == (View(), (0, 0, 640, 480))


@pytest.mark.parametrize("number", ["inf", "nan", "1e30"])
def test_a_polygon_needs_numbers_that_are_places(folder: Path, number: str) -> None:
    ignore = f"[camera.top]\nignore = [[[0, 0], [{number}, 0], [9, 9]]]\n"
    assert "ignore" in problem(folder, recipe=RECIPE + ignore)


def test_a_missing_recipe(folder: Path) -> None:
    (folder / "screw.toml").unlink()
    with pytest.raises(ConfigError) as caught:
        load(folder / "config.toml")
    where = f"{folder}/config.toml:3:12: recipes[0]"
    assert caught.value.problems == [f"{where}: {folder}/screw.toml: the file does not exist"]
    assert caught.value.exit_code == 78


def test_the_mistakes_of_all_recipes_are_told_at_once(folder: Path) -> None:
    (folder / "nut.toml").write_text(RECIPE + "[camera.left]\n[camera.top]\nroi = [0, 0, 9999, 64]\n")
    config = CONFIG.replace('["screw.toml"]', '["screw.toml", "nut.toml", "none.toml"]')
    assert problems(folder, config, RECIPE.replace("0.6", "2")) == [
        "config.toml:3:38: recipes[2]: none.toml: the file does not exist",
        "screw.toml:6:1: limits.spot.reject: expected a number ≥ 0.004 and ≤ 1, got 2",
        "nut.toml:7:9: camera.left: there is no such camera; there is top",
        "nut.toml:9:1: camera.top.roi: reaches outside the 640x480 image",
    ]


def test_the_mistakes_of_config_and_recipes_are_told_at_once(folder: Path) -> None:
    config = CONFIG.replace("width = 640", "widht = 640").replace("line1", "Line 1")
    config += '[[camera]]\nkind = "folder"\nname = "top"\nwidth = 640\nheight = 480\nfolder = "parts"\n'
    config += '[publish]\nresults = "tcp://0.0.0.0:5556"\nheartbeat = 200\n'
    added = "[limits.crack]\nsuspect = 0.7\nreject = 0.6\nmax_cuont = 1\n[camera.top]\nroi = [0, 0, 1, 1]\n"
    added += "zones.a = {}\n"
    found = problems(folder, config, RECIPE + added)
    assert [re.split(r": expected| \(expected", text)[0] for text in found] == [
        "config.toml:2:1: line",
        "config.toml:4:3: camera[0].width: key is missing",
        "config.toml:7:1: camera[0].widht: unknown key (did you mean width?)",
        "config.toml:12:1: camera[1].name: two cameras are named 'top'; every name must be its own",
        "config.toml:16:2: publish: results: other machines can reach tcp://0.0.0.0:5556: set server_key and "
        "client_keys (`inspectd keygen`), or allow_insecure = true, or bind to 127.0.0.1",
        "config.toml:18:1: publish.heartbeat: unknown key (did you mean heartbeat_ms?)",
        "screw.toml:7:9: limits.crack: suspect (0.7) must not be above reject (0.6)",
        "screw.toml:10:1: limits.crack.max_cuont: unknown key (did you mean max_count?)",
        "screw.toml:11:9: camera.top: roi must be [x >= 0, y >= 0, width >= 64, height >= 64], got [0, 0, 1, 1]",
        "screw.toml:13:7: camera.top.zones.a.polygon: key is missing",
        "screw.toml:13:7: camera.top.zones.a.limits: key is missing",
    ]


def test_a_recipe_is_held_against_the_cameras_of_an_unsound_config(folder: Path) -> None:
    added = "[camera.left]\n[camera.top]\nroi = [0, 0, 9999, 64]\n"
    assert problems(folder, CONFIG + "x = 1\n", RECIPE + added) == [
        "config.toml:10:1: camera[0].x: unknown key",
        "screw.toml:7:9: camera.left: there is no such camera; there is top",
        "screw.toml:9:1: camera.top.roi: reaches outside the 640x480 image",
    ]


def test_a_camera_whose_name_is_missing_may_be_the_one_that_the_recipe_means(folder: Path) -> None:
    (found,) = problems(folder, CONFIG.replace('name = "top"\n', ""), RECIPE + "[camera.top]\n")
    assert found.startswith("config.toml:4:3: camera[0].name: key is missing")


def test_a_key_that_is_there_but_for_its_spelling_breaks_no_rule(folder: Path) -> None:
    config = CONFIG + SIDE + 'sreial = "1"\n'
    assert problem(folder, config) == "camera[1].sreial: unknown key (did you mean serial?)"


def test_camera_is_not_taken_for_name(folder: Path) -> None:
    assert problem(folder, CONFIG + 'camera = "x"\n') == "camera[0].camera: unknown key"


@pytest.mark.parametrize("number", ["inf", "nan"])
@pytest.mark.parametrize(
    ("config", "recipe"),
    [
        *(("", f"{key} = {{}}\n") for key in ("min_area_px", "max_area_px", "max_length_px")),
        ("", "[image]\nmin_sharpness = {}\n"),
        ("", "[image]\nmin_mean = {}\n"),
        ("", "[camera.top.features]\nGain = {}\n"),
        ("mm_per_px = {}\n", ""),
        ("acquisition_frame_rate_hz = {}\n", ""),
    ],
)
def test_a_number_is_finite(folder: Path, config: str, recipe: str, number: str) -> None:
    told = problem(folder, CONFIG + config.format(number), RECIPE + recipe.format(number))
    assert told.endswith(f"got {number}")


@pytest.mark.parametrize("number", ["inf", "nan"])
def test_the_deadline_is_finite(folder: Path, number: str) -> None:
    assert problem(folder, recipe=RECIPE.replace("100", number)).endswith(f"got {number}")


def test_defaults_are_not_shared() -> None:
    first, second = (Recipe(model=".", deadline_ms=1, limits={}) for _ in range(2))
    assert first.camera is not second.camera
