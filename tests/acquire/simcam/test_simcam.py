"""simcam's C test under the sanitizers; and that its layout and its constants are those of the others."""

import ctypes
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from inspectd.acquire.simcam import faults, world

SOURCES = Path(world.__file__).parent
TEST = Path(__file__).with_suffix(".c")
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-g", "-pthread"]
SANITIZERS = {
    "address and undefined behaviour": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
}
WITHIN_S = 60.0
"""It takes 2.5 s (threads: 3.3 s) on two cores that nobody else uses."""
NO_LEAKS = "LeakSanitizer has encountered a fatal error"


def compiler() -> str:
    found = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        pytest.skip("there is no C compiler here")
    return found


def build(folder: Path, flags: list[str]) -> Path:
    """The test program; skips where the compiler has no such sanitizer."""
    empty = folder / "empty.c"
    empty.write_text("int main(void) { return 0; }\n")
    probe = subprocess.run([compiler(), *flags, empty, "-o", folder / "empty"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"the C compiler can't {' '.join(flags)}: {probe.stderr.strip().splitlines()[-1]}")
    program = folder / "test_simcam"
    files = [
        TEST,
        *(SOURCES / f"{name}.c" for name in ("device", "faults", "handles", "nodes", "ports", "stream")),
    ]
    places = ["-I", SOURCES, f"-Wa,-I{SOURCES}"]
    subprocess.run([compiler(), *WARNINGS, *flags, *places, *files, "-o", program], check=True, timeout=60)
    return program


def run(command: list[Any], folder: Path, argument: str = "", **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *argument.split()], env=os.environ | options | {"TMPDIR": str(folder)}, timeout=WITHIN_S,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def runnable(program: Path, folder: Path) -> list[Any]:
    """How to run it: kernels that scatter memory widely have no room for what TSan of gcc < 14 wants."""
    for command in ([program], [shutil.which("setarch") or "setarch", platform.machine(), "-R", program]):
        try:
            said = run(command, folder, "layout")
        except OSError:
            break
        if said.returncode == 0:
            return command
    pytest.skip(f"the sanitizer does not run here: {said.stdout.strip().splitlines()[-1]}")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test program without sanitizers."""
    return build(tmp_path_factory.mktemp("plain"), [])


def triples(program: Path, what: str) -> dict[str, tuple[int, int]]:
    lines = run([program], program.parent, what).stdout.splitlines()
    return {name: (int(first), int(second)) for name, first, second in map(str.split, lines)}


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_simcam_holds_under_the_sanitizer(sanitizer: str, tmp_path: Path) -> None:
    program = build(tmp_path, SANITIZERS[sanitizer])
    command = runnable(program, tmp_path)
    options = {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    done = run(command, tmp_path, **options)
    if NO_LEAKS in done.stdout:  # a sandbox without ptrace: all but the leaks is tested
        done = run(command, tmp_path, **(options | {"ASAN_OPTIONS": "detect_leaks=0"}))
    assert done.returncode == 0, done.stdout
    assert not re.search("Sanitizer|runtime error", done.stdout), done.stdout


def fields_of(structure: type[ctypes.Structure], prefix: str = "", at: int = 0) -> dict[str, tuple[int, int]]:
    """Offset and size of each field, and of the fields of structures within."""
    found = {}
    for name, kind, *_ in structure._fields_:
        field = getattr(structure, name)
        found[prefix + name] = at + field.offset, field.size
        if issubclass(kind, ctypes.Structure):
            found |= fields_of(kind, f"{name}.", at + field.offset)
    return found


def test_the_layout_is_that_of_python(plain: Path) -> None:
    python = fields_of(world.Memory)
    assert triples(plain, "layout") == {**python, "camera": (0, ctypes.sizeof(world.Memory))}


def test_the_numbers_are_those_of_python(plain: Path) -> None:
    python = {f"EFFECT_{effect.name}": effect.bit_length() - 1 for effect in faults.Effect}
    lists = {"CALL": faults.Call, "IDS": faults.Ids, "LISTED": faults.Listed, "SHORT_TELLS": faults.ShortTells}
    python |= {f"{prefix}_{one.name}": int(one) for prefix, members in lists.items() for one in members}
    python |= {"EFFECT_BITS": faults.EFFECT_BITS, "PLANNED": faults.PLANNED, "PULSES": world.PULSES}
    assert {name: value for name, (value, _) in triples(plain, "numbers").items()} == python


def test_the_library_was_built_from_these_files() -> None:
    if world.producer() is None:
        pytest.skip("simcam was not built: no C compiler at the installation")
    assert world.library().simcam_size() == ctypes.sizeof(world.Memory)


def constants() -> dict[str, int]:
    """Every constant of gentl.h; each says its value."""
    text = re.sub(r"/\*.*?\*/", "", (SOURCES / "gentl.h").read_text(), flags=re.DOTALL)
    found = {}
    for body in re.findall(r"enum \{(.*?)\}", text, re.DOTALL):
        for item in body.split(","):
            name, value = item.split("=")
            found[name.strip()] = int(value, 0)
    return found


def test_the_constants_are_those_of_the_standard() -> None:
    """genicam's wheel has them from EMVA's own header, harvesters the pixel formats from the PFNC."""
    gentl = pytest.importorskip("genicam.gentl")
    devices = pytest.importorskip("inspectd.acquire.genicam.devices")
    lists = [thing for thing in vars(gentl).values() if isinstance(thing, type)]
    standard = {name: int(getattr(one, name)) for one in lists for name in dir(one) if name.isupper()}
    standard |= {name: value for value, name in devices.PIXEL_FORMATS.items()}
    ours = constants()
    assert len(ours) > 120
    assert ours == {name: standard[name] for name in ours}
