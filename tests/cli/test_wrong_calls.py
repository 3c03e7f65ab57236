"""Wrong calls of every command, made from the programs' own command lines: one sentence, the documented code."""

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from inspectd.cli.main import app as daemon_app
from inspectd.cli.usage import call
from inspectd_train.cli.main import app as training_app

PROGRAMS = {
    "inspectd": (daemon_app, "inspectd.__main__"),
    "inspectd-train": (training_app, "inspectd_train.cli.main"),
}
LIBRARY_WORDS = re.compile(
    r"Traceback|Error\b|Errno|Exception|Input should|Invalid value|Got unexpected|<class|None\b|\^\[|\\x|Usage:|╭"
)
"""Words of Python, of a library or of a regular expression, none of which a user should have to know."""
FILLED = {"RECIPE": "dark", "CAMERA": "top", "FORMAT": "coco", "KIND": "drop", "NAME": "somebody"}
"""What a required argument is, where another one is wrong."""


class Command(NamedTuple):
    """A command that does something, as its program's own tree has it."""

    program: str
    words: tuple[str, ...]
    params: list[Any]
    takes_any_word: bool

    @property
    def required(self) -> list[Any]:
        return [param for param in self.params if param.required]

    def filled(self, but: Any = None, value: str = "", else_: str = "nowhere") -> list[str]:
        """The words of a call that would be right: every required parameter, `but` one with this value."""
        words = list(self.words)
        for param in self.required if but is None or but.required else [*self.required, but]:
            given = value if param is but else FILLED.get(str(param.metavar).upper(), else_)
            given += f"-{'-'.join(self.words)}" if param.name == "out" else ""  # nobody else's folder
            words += [given] if param.param_type_name == "argument" else [param.opts[0], given]
        return words


def commands_of(program: str) -> Iterator[Command]:
    def walk(command: Any, words: tuple[str, ...]) -> Iterator[Command]:
        subcommands = getattr(command, "commands", {})
        if not subcommands or words in (("bench",), ("cameras",)):
            settings = command.context_settings or {}
            params = [p for p in command.params if p.name != "help"]
            yield Command(program, words, params, bool(settings.get("ignore_unknown_options")))
        for name, sub in subcommands.items():
            yield from walk(sub, (*words, name))

    yield from walk(typer.main.get_command(PROGRAMS[program][0]), ())


COMMANDS = [command for program in PROGRAMS for command in commands_of(program)]


def is_flag(param: Any) -> bool:
    return bool(getattr(param, "is_flag", False))


def wrong_for_the_parser(command: Command) -> Iterator[list[str]]:
    """Calls that are wrong by the command line alone, without any file being looked at."""
    if not command.takes_any_word:
        yield [*command.filled(), "--nonsense"]
        yield [*command.filled(), "-Z"]
    if not (is_group := command.words in (("bench",), ("cameras",))):
        yield [*command.filled(), *["surplus"] * 4]
    else:
        yield [*command.filled(), "no-such-command"]
    if command.required and not is_group:
        yield list(command.words)
    for param in command.params:
        if param.param_type_name != "option" or is_flag(param):
            continue
        yield [*command.filled(), param.opts[0]]
        if getattr(param, "min", None) is not None:
            yield command.filled(param, str(param.min - 1))
            yield command.filled(param, "many")
            yield command.filled(param, "")
        elif param.type_descriptor.is_choice:
            yield command.filled(param, "none-of-these")


PARSED = [
    (command.program, words) for command in COMMANDS if command.words for words in wrong_for_the_parser(command)
]


def test_there_are_more_than_two_hundred() -> None:
    assert len(PARSED) > 200 and {program for program, _ in PARSED} == set(PROGRAMS)
    assert len(COMMANDS) > 30


def check_said(said: str, *places: str) -> None:
    """One sentence in one line; or, for a file with several mistakes, a line for each, with its place."""
    assert not LIBRARY_WORDS.search(said), said
    lines = said.splitlines()
    assert lines and (len(lines) == 1 or all(line.startswith(places) for line in lines)), said
    assert all(len(line.split()) > 3 for line in lines), said


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_wrong_command_line_is_one_sentence(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (words for of, words in PARSED if of == program):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [program, *words])
            code = call(PROGRAMS[program][0], program)
        out, err = capsys.readouterr()
        assert (code, out) == (2, ""), (words, out, err)
        check_said(err)
        assert err.startswith(f"{program} ") and err.endswith(" -h says what it takes\n"), (words, err)


def made(folder: Path) -> dict[str, Path]:
    """What somebody may name instead of the right file or folder."""
    for name, content in {"empty": b"", "garbage": bytes(range(256)) * 9, "text": b"to be, or = not"}.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "latin").write_bytes(b'line = "K\xfchler"')
    names = ("nowhere/at/all", "empty", "garbage", "text", "folder", "loop", "latin", "empty/within")
    return {name: folder / name for name in names} | {"too long": folder / ("x" * 300)}


def paths_of(command: Command) -> list[Any]:
    """The parameters that name something which has to be there."""
    given = ("config", "path", "bundle", "data_set", "source", "folder", "a", "b", "images", "origin", "recipe")
    return [p for p in command.params if p.name in given and p.type_descriptor.is_path]


LOOKED = [(command, param) for command in COMMANDS for param in paths_of(command)]


def run_wrong(program: str, words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.argv[0] = {program!r}; from {PROGRAMS[program][1]} import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
        errors="replace",
    )


@pytest.mark.parametrize("kind", range(9))
def test_a_file_that_is_none_is_one_sentence(kind: int, tmp_path: Path) -> None:
    """Each kind of wrong file goes to a ninth of the parameters: all kinds to all take minutes."""
    name, path = list(made(tmp_path).items())[kind]
    calls = []
    for i, (command, param) in enumerate(LOOKED):
        if i % 9 == kind:
            words = command.filled(param, str(path), else_=str(tmp_path / "folder"))
            calls.append((command, words))
    with ThreadPoolExecutor(2) as pool:
        shown = list(pool.map(lambda one: run_wrong(one[0].program, one[1], tmp_path), calls))
    for (_, words), result in zip(calls, shown, strict=True):
        assert result.returncode in (1, 2, 69, 78), (name, words, result)
        check_said(result.stderr, str(path), str(tmp_path))
