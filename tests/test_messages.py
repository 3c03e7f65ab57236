"""All sentences of the source that a user may be told: what can be seen of them without saying them.

Heuristics, not proof: that a sentence is true, and of help, only people can say.
"""

import re
import subprocess
import sys

from inspectd_train.dev.messages import ERRORS, PASSED_ON, Message, messages

FOUND = list(messages())
SENTENCES = [one for one in FOUND if one.kind in ERRORS - {"StoppedError"} and one.text != PASSED_ON]
FOREIGN = re.compile(
    r"Traceback|Errno|\w+Error\b|Exception\b|NoneType|<class|\^\[|\\[dws]|\bregex\b|\bpydantic\b|\bmsgspec\b|\bclick\b|stdin"
)
"""Words of Python and of libraries, and regular expressions."""
NAMES = re.compile(r"\{|`|--\w|\w=|= |\[\w+\]|\.json|\.toml|GENICAM_GENTL64_PATH")
"""What names a thing: something filled in, a command, an option, a key, a file."""
GOES_ON = re.compile(r"[;:?(] ?\w")
"""A second part, which says why, or what to do."""
TOLD_FURTHER = "tools/data/imports/"
"""Where a sentence is about one picture: data/imports/store.py puts the picture's file before it."""


def listed(wrong: list[Message]) -> str:
    return "\n".join(f"{one.place}: {one.text}" for one in wrong)


def test_there_are_messages_of_every_room() -> None:
    assert len(SENTENCES) > 200
    rooms = {one.place.split("/")[1] for one in FOUND}
    assert rooms > {"acquire", "cli", "engine", "publish", "settings", "steer", "subscribe", "data", "train"}


def test_no_sentence_uses_foreign_words() -> None:
    wrong = [one for one in FOUND if FOREIGN.search(one.text)]
    assert not wrong, listed(wrong)


def test_each_is_one_sentence_in_one_voice() -> None:
    """It begins small or with a name and ends without a full stop: others put their words around it."""
    wrong = [one for one in SENTENCES if one.text.endswith((".", "!")) or re.match(r"[A-Z][a-z]+ ", one.text)]
    assert not wrong, listed(wrong)


def test_each_names_its_subject_or_says_what_to_do() -> None:
    """Not those of cameras: each is said with the camera's name before it."""
    said = [one for one in SENTENCES if not one.place.startswith(TOLD_FURTHER) and one.kind != "CameraError"]
    wrong = [one for one in said if not (NAMES.search(one.text) or GOES_ON.search(one.text))]
    assert not wrong, listed(wrong)


def test_the_list_can_be_searched() -> None:
    command = [sys.executable, "-m", "inspectd_train.dev.messages"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(shown) == len(FOUND)
    assert all(re.match(r"(inspectd|tools)/[\w/]+\.py:\d+: \w+: .", row) for row in shown)
