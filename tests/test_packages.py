"""Wheel and sdist hold every package, and what they install runs in an empty environment."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acquire.sims import needs_simcam

ROOT = Path(__file__).parent.parent
OWN = {"inspectd": "inspectd", "tools": "inspectd_train"}
"""Folders of the tree, and the names that they are installed by."""
TEXTS = "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"
INGREDIENTS = "pyproject.toml", "setup.py", "MANIFEST.in", *TEXTS
SHELLS = "inspectd/cli/completions"
HERE = Path(sysconfig.get_path("purelib"))
"""Where the packages are that ours need: nothing is downloaded."""
SUBSCRIBERS = "msgspec", "zmq", "pyzmq.libs"  # the last holds libzmq, beside the package
NOT_BUILT = shutil.ignore_patterns("__pycache__", "*.so", "*.pyc")

Run = Callable[..., subprocess.CompletedProcess[str]]


def tree(pattern: str) -> set[str]:
    """The files of both packages, under the names that they are installed by."""
    return {
        f"{name}/{path.relative_to(ROOT / folder)}"
        for folder, name in OWN.items()
        for path in (ROOT / folder).rglob(pattern)
    }


def call_hook(hook: str, source: Path, out: Path) -> Path:
    """Build with the setuptools that is installed here, as pip and build do; returns the file."""
    out.mkdir()
    code = f"from setuptools import build_meta; build_meta.{hook}({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a copy of the tree: building leaves things behind."""
    source = tmp_path_factory.mktemp("tree")
    for name in INGREDIENTS:
        shutil.copy(ROOT / name, source)
    for folder in (*OWN, "tests"):
        shutil.copytree(ROOT / folder, source / folder, ignore=NOT_BUILT)
    return call_hook("build_sdist", source, source / "dist")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of what the sdist holds, so that both must be whole."""
    source = tmp_path_factory.mktemp("sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(source, filter="data")
    (unpacked,) = source.iterdir()
    return call_hook("build_wheel", unpacked, source / "dist")


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Run:
    """Runs a program of an environment that holds the wheel, elsewhere than in the repository.

    packages: what else can be imported there, of what is installed here; None = everything but ourselves.
    """

    def run(*command: str, packages: tuple[str, ...] | None = None) -> subprocess.CompletedProcess[str]:
        place = tmp_path / "venv"
        if not place.exists():
            venv.create(place)
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(place)]
            pip += ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
            subprocess.run(pip, check=True)
        (site,) = place.glob("lib/python*/site-packages")
        for name in packages or ():
            if (HERE / name).exists():
                (site / name).symlink_to(HERE / name)
        if packages is None:  # last on the path, and the .pth files there, ours too, are not read
            (site / "others.pth").write_text(f"{HERE}\n")
        env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        program = str(place / "bin" / command[0])
        return subprocess.run([program, *command[1:]], cwd=tmp_path, env=env, capture_output=True, text=True)

    return run


def where(module: str) -> str:
    return f"import {module}; print({module}.__file__)"


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if name.endswith(".py")} == tree("*.py")
    assert tree("*.xml") and tree("*.xml") | tree("*.h") <= names
    others = {name.split("/")[0] for name in names} - set(OWN.values())
    assert sorted(name.rpartition(".")[2] for name in others) == ["data", "dist-info"]
    shells = {name.partition(".data/data/share/")[2] for name in names if ".data/" in name}
    assert {"bash-completion/completions/inspectd.bash", "zsh/site-functions/_inspectd"} < shells
    assert len(shells) == len(list((ROOT / SHELLS).iterdir())) == 6
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    is_built = any(Path(name).match("inspectd/acquire/simcam/_producer*.so") for name in names)
    assert is_built or shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) is None


def test_the_sdist_holds_all_that_the_wheel_is_made_of_and_no_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder, name in OWN.items():
        for pattern in ("*.py", "*.[ch]", "*.xml"):
            wanted = {path.replace(name, folder, 1) for path in tree(pattern) if path.startswith(f"{name}/")}
            assert wanted <= names
    assert set(INGREDIENTS) | {f"{SHELLS}/{path.name}" for path in (ROOT / SHELLS).iterdir()} <= names
    assert not any(name.startswith(("tests", "models", ".")) for name in names)


def test_a_subscriber_needs_msgspec_and_pyzmq_alone(installed: Run, tmp_path: Path) -> None:
    shown = installed(
        "python", "-c", f"from inspectd.subscribe import Results; {where('inspectd')}", packages=SUBSCRIBERS
    )
    assert shown.stdout.startswith(f"{tmp_path}/venv/"), shown.stderr
    for absent in ("numpy", "structlog", "typer"):  # else this would show nothing
        assert installed("python", "-c", f"import {absent}", packages=()).returncode == 1


@needs_simcam
def test_the_demo_line_is_checked_by_the_installed_program(installed: Run, tmp_path: Path) -> None:
    """With the simulated camera, whose C library and features must have come along."""
    shutil.copy(ROOT / "config.toml", tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    shown = installed("inspectd", "check", "-c", "config.toml")
    assert shown.returncode == 0 and "golden test within" in shown.stdout, shown.stderr
    assert "SIM-top" in shown.stdout
    assert installed("python", "-c", where("inspectd")).stdout.startswith(f"{tmp_path}/venv/")


def test_the_training_tool_is_installed_as_inspectd_train(installed: Run, tmp_path: Path) -> None:
    shown = installed("inspectd-train", "--help")
    assert shown.returncode == 0 and "calibrate" in shown.stdout, shown.stderr
    assert installed("python", "-c", where("inspectd_train.cli.main")).stdout.startswith(f"{tmp_path}/venv/")
    assert installed("python", "-c", "import tools").returncode == 1  # that name is everybody's


def test_the_version_stands_in_one_place(wheel: Path, installed: Run) -> None:
    from inspectd import __version__

    assert wheel.name.split("-")[1] == __version__
    assert f'"{__version__}"' not in (ROOT / "pyproject.toml").read_text()
    shown = installed("python", "-c", "from importlib.metadata import version; print(version('inspectd'))")
    assert shown.stdout == f"{__version__}\n"
