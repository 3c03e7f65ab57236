"""Completion: the shells' files as the program itself makes them, and what bash gets from them."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lines import Line

FOLDER = Path(__file__).parents[2] / "inspectd/cli/completions"
BIN = Path(sys.executable).parent
FILES = {"bash": "{}.bash", "zsh": "_{}", "fish": "{}.fish"}


@pytest.mark.parametrize("program", ["inspectd", "inspectd-train"])
@pytest.mark.parametrize("shell", FILES)
def test_the_shipped_file_is_what_the_program_makes(program: str, shell: str) -> None:
    """Another version of typer may make another: write it anew then, from what this command prints."""
    asked = {f"_{program.upper().replace('-', '_')}_COMPLETE": f"source_{shell}"}
    shown = subprocess.run([BIN / program], capture_output=True, text=True, env={**os.environ, **asked})
    assert (FOLDER / FILES[shell].format(program)).read_text() == shown.stdout.strip() + "\n"
    if shell == "zsh":
        assert shown.stdout.strip().startswith(f"#compdef {program}\n")


def completed(line: Line, words: str, program: str = "inspectd") -> list[str]:
    """What bash offers for the last of these words, an empty one after a blank at the end."""
    given = [program, *shlex.split(words), *([""] if words.endswith(" ") else [])]
    function = f"_{program.replace('-', '_')}_completion"
    script = (
        f"source {FOLDER}/{program}.bash; COMP_WORDS=({shlex.join(given)}); COMP_CWORD={len(given) - 1}; "
        f"{function} {program}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=line.folder, env=env)
    assert shown.returncode == 0 and not shown.stderr, shown.stderr
    return shown.stdout.split()


def test_bash_completes_commands_and_names_of_the_config(line: Line) -> None:
    line.write("", 'dark/recipe.toml", "products/screw_m8.toml')
    assert set(completed(line, "c")) == {"check", "cameras", "ctl"}
    assert completed(line, "ctl se") == ["select"]
    assert set(completed(line, "ctl select ")) == {"dark", "screw_m8"}
    assert completed(line, f"ctl select -c {line.config} scr") == ["screw_m8"]
    assert completed(line, "ctl trigger ") == completed(line, "cameras features t") == ["top"]
    assert "unplug-at-trigger" in completed(line, "simcam fault unplug")
    assert completed(line, "evalu", "inspectd-train") == ["evaluate"]


@pytest.mark.parametrize(
    "content", [b"", b"recipes = 3", b"\xff", b"camera = [1, {name = 2}]\nrecipes = [7]", None]
)
def test_a_config_that_is_none_completes_nothing(line: Line, content: bytes | None) -> None:
    line.config.unlink()
    if content is not None:
        line.config.write_bytes(content)
    assert completed(line, "ctl select ") == completed(line, "ctl trigger ") == []


def test_no_heavy_package_is_imported_for_it(line: Line) -> None:
    code = (
        "import sys, inspectd.cli.complete, inspectd.cli.main; "
        "print([m for m in ('numpy', 'cv2', 'openvino', 'harvesters', 'rich.live') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
