"""How a command line is read: `-h` everywhere, and one sentence for a wrong call."""

import re
import sys
from typing import Any

import typer

WrongCallError: type[Exception] = typer.BadParameter.__mro__[1]
"""What typer raises for a command line that can't be: it has no public name for it."""
WRONG_CALL = 2
HELP_OPTIONS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
"""For `context_settings` of a program: its commands take them over."""
WORDS = (
    (r"(.+): Input should be a valid integer.*", r"\1 wants a whole number"),
    (r"(.+): Input should be a valid number.*", r"\1 wants a number"),
    (r"(.+): Input should be a finite number.*", r"\1 wants a number"),
    (r"(.+): Input should be greater than or equal to (.+)", r"\1 must be at least \2"),
    (r"(.+): Input should be less than or equal to (.+)", r"\1 must be at most \2"),
    (r"(.+): Input should be (.+)", r"\1 must be \2"),
    (r"(.+): Value error, (.+) is not one of (.+)", r"\1 must be one of \3, not \2"),
    (r"Missing option (.+)", r"\1 is missing"),
    (r"No such option: (\S+)(.*)", r"there is no option \1\2"),
    (r"No such command (.+)\. Did you mean (.+)\?", r"there is no command \1 (did you mean \2?)"),
    (r"No such command (.+)", r"there is no command \1"),
    (r"Got unexpected extra arguments?(?:\(s\))? \((.+)\)", r"these words are too many: \1"),
    (r"Option (.+) requires an argument", r"\1 wants a value after it"),
    (r"Option (.+) does not take a value", r"\1 takes no value"),
)
"""What typer and the library behind it say, and what we do."""


def call(app: typer.Typer, name: str) -> int:
    """Run the command line and give its exit code; a wrong one is a sentence on the standard error, and 2."""
    try:
        code = app(standalone_mode=False, prog_name=name)
    except WrongCallError as error:
        if said := error.format_message():  # type: ignore[attr-defined]  # nothing: the help was shown
            command = _command(app, name, sys.argv[1:])
            print(f"{command}: {in_our_words(said)}; {command} -h says what it takes", file=sys.stderr)
        return WRONG_CALL
    return code if isinstance(code, int) else 0


def _command(app: typer.Typer, name: str, words: list[str]) -> str:
    """The command that a command line begins with: not every error names its own."""
    command = typer.main.get_command(app)
    for word in words:
        if word not in (subcommands := getattr(command, "commands", {})):
            break
        command, name = subcommands[word], f"{name} {word}"
    return name


def in_our_words(said: str) -> str:
    """Say what is wrong with a command line, in the words of the rest of the program."""
    said = " ".join(said.split()).removeprefix("Invalid value for ").replace("' / '", "' or '")
    said = re.sub(r"'(-[^']*)'", r"\1", said).removesuffix(".")
    if found := re.fullmatch(r"Missing argument '(.+)'", said):
        return f"{found[1].upper()} is missing"
    for pattern, words in WORDS:
        if found := re.fullmatch(pattern, said):
            return found.expand(words)
    return said[0].lower() + said[1:]
