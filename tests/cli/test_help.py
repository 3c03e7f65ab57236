"""`-h` of every command, and the voice in which `inspectd` speaks of itself."""

import re
import subprocess
import sys

import pytest
import typer

from inspectd.cli.main import app
from inspectd.cli.usage import call, in_our_words
from tests.cli.test_wrong_calls import COMMANDS, PROGRAMS, is_flag

OWN = [command for command in COMMANDS if command.program == "inspectd"]
NO_VERBS = {"The", "A", "An", "This", "That", "It", "Its", "GenICam", "Without", "With", "One", "All", "Each"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_h_is_help_on_every_command(
    program: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {command.words[:n] for command in COMMANDS if command.program == program for n in range(3)}
    for path in sorted(words):
        shown = []
        for option in ("-h", "--help"):
            monkeypatch.setattr(sys, "argv", [program, *path, option])
            assert call(PROGRAMS[program][0], program) == 0
            shown.append(capsys.readouterr().out)
        assert shown[0] == shown[1] and " ".join((program, *path)) in shown[0]


def test_each_command_is_told_in_the_imperative() -> None:
    def helps(command: object, words: tuple[str, ...] = ()) -> dict[str, str]:
        found = {" ".join(words): getattr(command, "help", None) or ""}
        for name, sub in getattr(command, "commands", {}).items():
            found |= helps(sub, (*words, name))
        return found

    for words, told in helps(typer.main.get_command(app)).items():
        first = told.split("\n\n")[0].strip()
        verb = first.split()[0]
        assert verb[0].isupper() and verb not in NO_VERBS and not verb.endswith("s"), (words, first)
        assert first.endswith((".", "?")) and len(first) <= 110, (words, first)


def test_each_option_is_told_in_sentences_with_the_name_of_its_value() -> None:
    for command in OWN:
        for param in command.params:
            told = getattr(param, "help", None) or ""
            assert re.match(r"[A-Z]", told) and told.endswith("."), (command.words, param.name, told)
            if not is_flag(param):
                assert param.metavar and param.metavar.isupper(), (command.words, param.name)


def test_config_and_connect_are_alike_everywhere() -> None:
    for command in OWN:
        options = {option for param in command.params for option in param.opts}
        assert ("-c" in options) == ("--config" in options), command.words
        speaks_to_a_daemon = command.words[0] == "ctl" or command.words == ("watch",)
        assert ("--connect" in options) == speaks_to_a_daemon, command.words
        if command.words not in (("keygen",), ("bench", "acquire")):  # which read no config
            assert "-c" in options, command.words


def test_the_commands_are_grouped() -> None:
    shown = subprocess.run([sys.executable, "-m", "inspectd", "-h"], capture_output=True, text=True)
    groups = [
        text.find(title)
        for title in ("Run a line", "Prepare a line", "Look at this machine")
        for text in (shown.stdout,)
    ]
    assert shown.returncode == 0 and 0 < groups[0] < groups[1] < groups[2]


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        (
            "Invalid value for '--count': Input should be a valid integer, unable to parse string as an integer",
            "--count wants a whole number",
        ),
        ("Invalid value for '--config' / '-c': x is wrong.", "--config or -c: x is wrong"),
        ("Missing argument 'folder'.", "FOLDER is missing"),
        ("No such command 'runn'. Did you mean 'run'?", "there is no command 'runn' (did you mean 'run'?)"),
        ("Something of a later version.", "something of a later version"),
    ],
)
def test_what_the_library_says_in_our_words(said: str, ours: str) -> None:
    assert in_our_words(said) == ours
