"""What inspectd.settings.toml says about mistakes in a file, and that its scanner agrees with tomllib."""

import enum
import json
import os
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspectd.runtime.errors import ConfigError
from inspectd.settings.camera import NAME_PATTERN
from inspectd.settings.positions import KeyPath, positions
from inspectd.settings.toml import load


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every table here shares."""


class Trigger(enum.StrEnum):
    """An enum."""

    OFF = "off"
    LINE = "line"


class Limits(Strict, frozen=True, forbid_unknown_fields=True):
    """A table with a rule across its fields."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        if self.low >= self.high:
            raise ValueError("low must be less than high")


class FolderCamera(Strict, frozen=True, forbid_unknown_fields=True, tag="folder", tag_field="kind"):
    """One kind of camera."""

    folder: str
    limits: Limits = Limits()


class GenicamCamera(Strict, frozen=True, forbid_unknown_fields=True, tag="genicam", tag_field="kind"):
    """Another kind of camera."""

    serial: str
    exposure_us: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    acquisition_frame_rate_hz: Annotated[float, msgspec.Meta(ge=0.1)] | None = None
    trigger: Trigger = Trigger.OFF


class Config(Strict, frozen=True, forbid_unknown_fields=True):
    """A configuration that uses every kind of field."""

    name: str
    camera: list[FolderCamera | GenicamCamera] = []
    limits: dict[str, Limits] = {}
    labels: dict[str, float | int | str | bool] = {}
    tags: list[str] = []
    region: tuple[int, int, float] | None = None
    gains: Annotated[tuple[float, ...], msgspec.Meta(max_length=3)] = ()
    port: Annotated[int, msgspec.Meta(gt=0, lt=65536)] = 80
    enabled: bool = True
    width: Annotated[int, msgspec.Meta(multiple_of=4, ge=4)] = 4
    code: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN, min_length=2)] | None = None
    either: int | list[str] | None = None
    other: Limits | None = None


def errors(tmp_path: Path, text: str | bytes, type_: type[msgspec.Struct] = Config) -> list[str]:
    """Return the problems of a file that holds `text`, without the folder in front."""
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load(path, type_)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [problem.replace(f"{tmp_path}{os.sep}", "") for problem in caught.value.problems]


def test_a_good_file_becomes_a_value(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '\ufeffname = "a"\nregion = [1, 2, 3]\ngains = [1, 2.5]\n'
        'labels = {a = 1, b = 2.5, c = "x", d = true}\n'
        'either = ["x"]\ncode = "ab"\n[limits.x]\nhigh = 2\n[[camera]]\nkind = "folder"\nfolder = "in"\n'
        '[[camera]]\nkind = "genicam"\nserial = "1"\ntrigger = "line"\nacquisition_frame_rate_hz = 3\n',
        encoding="utf-8",
    )
    config = load(path, Config)
    assert config == Config(
        name="a",
        camera=[
            FolderCamera(folder="in"),
            GenicamCamera(serial="1", trigger=Trigger.LINE, acquisition_frame_rate_hz=3.0),
        ],
        limits={"x": Limits(high=2.0)},
        labels={"a": 1, "b": 2.5, "c": "x", "d": True},
        region=(1, 2, 3.0),
        gains=(1.0, 2.5),
        either=["x"],
        code="ab",
    )
    assert isinstance(config.limits["x"].high, float)
    assert type(config.labels["a"]) is int


GENICAM = 'name = "a"\n[[camera]]\nkind = "genicam"\nserial = "1"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1:1: name: key is missing (expected text)"),
        ("name = 5", "1:1: name: expected text, got 5"),
        ('name = "a"\nportt = 1', "2:1: portt: unknown key (did you mean port?)"),
        ('name = "a"\nTags = []', "2:1: Tags: unknown key (did you mean tags?)"),
        ('name = "a"\nzzz = 1', "2:1: zzz: unknown key"),
        ('name = "a"\n"z z" = 1', '2:1: "z z": unknown key'),
        ('name = "a"\n"z\\nz" = 1', '2:1: "z\\nz": unknown key'),
        ('name = "a"\nport = 0', "2:1: port: expected a whole number > 0 and < 65536, got 0"),
        ('name = "a"\nport = 8.0', "2:1: port: expected a whole number > 0 and < 65536, got 8.0"),
        ('name = "a"\nport = true', "2:1: port: expected a whole number > 0 and < 65536, got true"),
        ('name = "a"\nwidth = 6', "2:1: width: expected a whole number ≥ 4 and a multiple of 4, got 6"),
        (
            'name = "a"\nport = 0x' + "f" * 9999,
            "2:1: port: expected a whole number > 0 and < 65536, got a huge number",
        ),
        ('name = "a"\nenabled = "yes"', '2:1: enabled: expected true or false, got "yes"'),
        ('name = "a"\ntags = "x"', '2:1: tags: expected a list of texts, got "x"'),
        (
            'name = "a"\ntags = [\n  "x",\n  2020-01-02, # no\n]',
            "4:3: tags[1]: expected text, got 2020-01-02",
        ),
        ('name = "a"\ncamera = 1', "2:1: camera: expected a list of tables, got 1"),
        (
            'name = "a"\n[camera]\nx = 1',
            "2:2: camera: each is a table of its own: write [[camera]], in double brackets",
        ),
        ('name = "a"\nlimits = []', "2:1: limits: expected a table, got a list of 0 elements"),
        ('name = "a"\nother = 3', "2:1: other: expected a table, got 3"),
        ('name = "a"\nregion = [1]', "2:1: region: expected a list of 3 elements, got a list of 1 element"),
        ('name = "a"\nregion = [1, "x", 2]', '2:14: region[1]: expected a whole number, got "x"'),
        (
            'name = "a"\ngains = [1, 2, 3, 4]',
            "2:1: gains: expected a list of numbers (at most 3 elements), got a list of 4 elements",
        ),
        (
            'name = "a"\ncode = "A"',
            "2:1: code: expected a name of a to z, 0 to 9, - and _ (at most 32 characters, a letter or digit "
            'first) (at least 2 characters), got "A"',
        ),
        ('name = "a"\neither = "x"', '2:1: either: expected a whole number or a list of texts, got "x"'),
        ('name = "a"\neither = [5]', "2:11: either[0]: expected text, got 5"),
        (
            'name = "a"\n[labels]\n  x = [1]',
            "3:3: labels.x: expected a number or a whole number or text or true or false, got a list of 1 element",
        ),
        (GENICAM + "expsure_us = 5", "5:1: camera[0].expsure_us: unknown key (did you mean exposure_us?)"),
        (
            GENICAM + "acquisition_frame_rate_hz = -3",
            "5:1: camera[0].acquisition_frame_rate_hz: expected a number ≥ 0.1, got -3",
        ),
        (
            GENICAM + "acquisition_frame_rate_hz = nan",
            "5:1: camera[0].acquisition_frame_rate_hz: expected a number ≥ 0.1, got nan",
        ),
        (GENICAM + 'trigger = "of"', '5:1: camera[0].trigger: expected one of "off", "line", got "of"'),
        (
            'name = "a"\n[[camera]]\nkind = "x"',
            '3:1: camera[0].kind: expected one of "folder", "genicam", got "x"',
        ),
        (
            'name = "a"\n[[camera]]\nfolder = "x"',
            '2:3: camera[0].kind: key is missing (expected one of "folder", "genicam")',
        ),
        ('name = "a"\n[[camera]]\nkind = "folder"', "2:3: camera[0].folder: key is missing (expected text)"),
        (
            'name = "a"\ncamera = [{kind = "folder"}]',
            "2:11: camera[0].folder: key is missing (expected text)",
        ),
        ('name = "a"\n[limits."a b"]\nlow = 3', '2:9: limits."a b": low must be less than high'),
        ('name = "a"\nother = {low = 3}', "2:1: other: low must be less than high"),
        ('name = "a"\nother.low = 3', "2:1: other: low must be less than high"),
    ],
)
def test_each_kind_of_mistake_has_its_words(tmp_path: Path, text: str, problem: str) -> None:
    assert errors(tmp_path, text) == [f"config.toml:{problem}"]
    assert errors(tmp_path, text.replace("\n", "\r\n")) == [f"config.toml:{problem}"]


def test_a_rule_of_the_whole_file_stands_at_its_top(tmp_path: Path) -> None:
    assert errors(tmp_path, "\nlow = 7", Limits) == ["config.toml:1:1: low must be less than high"]


def test_a_huge_whole_number_does_not_fit_a_number(tmp_path: Path) -> None:
    assert errors(tmp_path, "high = 0x" + "f" * 999, Limits) == [
        "config.toml:1:1: high: expected a number, got a huge number"
    ]


def test_many_mistakes_come_at_once_in_file_order(tmp_path: Path) -> None:
    text = """\
# a comment = "with [noise"
port = "80"
tags = ["a", 1, "b",
        true]

[limits.first]
low = 2

[[camera]]
kind = "folder"
[camera.limits]
low = "x"
hihg = 1

[[camera]]
kind = "genicam"
exposure_us = 0
"expsure_us" = 7

[limits]
second = { low = 1, high = 0 }
"""
    assert errors(tmp_path, text) == [
        "config.toml:1:1: name: key is missing (expected text)",
        'config.toml:2:1: port: expected a whole number > 0 and < 65536, got "80"',
        "config.toml:3:14: tags[1]: expected text, got 1",
        "config.toml:4:9: tags[3]: expected text, got true",
        "config.toml:6:9: limits.first: low must be less than high",
        "config.toml:9:3: camera[0].folder: key is missing (expected text)",
        'config.toml:12:1: camera[0].limits.low: expected a number, got "x"',
        "config.toml:13:1: camera[0].limits.hihg: unknown key (did you mean high?)",
        "config.toml:15:3: camera[1].serial: key is missing (expected text)",
        "config.toml:17:1: camera[1].exposure_us: expected a whole number ≥ 1 and ≤ 1000, got 0",
        "config.toml:18:1: camera[1].expsure_us: unknown key (did you mean exposure_us?)",
        "config.toml:21:1: limits.second: low must be less than high",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = 1\nb = foo", ":2:5: not valid TOML: not a value (text must stand in quotes)"),
        ("a = 1\na = 2\n", ":2:6: not valid TOML: the key already has a value"),
        ("a = 1\n?", ":2:1: not valid TOML: expected a key or a [table]"),
        ("[a]\n\n[b", ":3:3: not valid TOML: the closing ] of a table's name is missing"),
        ("a = [1,\n2\n\n", ":2:2: not valid TOML: the closing ] of a list is missing"),
        ('a = "x\nb = 1\n', ":1:7: not valid TOML: the closing quote of a text is missing"),
        ("a = 'x\r\nb = 1\n", ":1:5: not valid TOML: the closing quote of a text is missing"),
        ("a = 'x", ":1:5: not valid TOML: the closing quote of a text is missing"),
        ('a = """x\n\n', ":1:5: not valid TOML: the closing quote of a text is missing"),
        ("a = '''x\n\n", ":1:5: not valid TOML: the closing quote of a text is missing"),
        (
            'a = "x\ty\\1"',
            r":1:11: not valid TOML: a backslash stands alone: write \\, or the text in 'single quotes'",
        ),
        ('a = "x\x01"', ":1:7: not valid TOML: a control character stands here, take it out"),
        ("a = 1 b = 2", ":1:7: not valid TOML: more text after a value; a key begins a new line"),
        ("a 1", ":1:3: not valid TOML: expected = after the key"),
        ("[a]\nx = 1\n[a]\n", ":3:3: not valid TOML: this table, or the one it is part of, was written before"),
        (
            "a = {b = 1}\n[a.c]\n",
            ":2:5: not valid TOML: this table, or the one it is part of, was written before",
        ),
        (
            "a = {b = 1\n}",
            ":1:11: not valid TOML: the closing } of a table is missing (it must stand on the same line)",
        ),
        ("a = {b = 1, b = 2}", ":1:18: not valid TOML: the key already has a value"),
        ("a = 2026-02-30", ":1:5: not valid TOML: there is no such date or time"),
        ("[[a]]\nx = 1\n\n[a]  # one more\n", ":4:1: not valid TOML: [a] beside [[a]]: write [[a]] here as well"),
        ("[a]\nx = 1\n\n[[ a ]]\n", ":1:1: not valid TOML: [a] beside [[a]]: write [[a]] here as well"),
        ("a = " + "1" * 5000, ": not valid TOML: a number has too many digits"),
        ("a = " + "[" * 9999, ": the values are nested too deeply"),
        (b"a = 1\nb = '\xff'", ":2:6: not UTF-8 text (byte 0xff)"),
        (b"\xef\xbb\xbfa = '\xff'", ":1:6: not UTF-8 text (byte 0xff)"),
    ],
)
def test_a_file_that_is_not_toml(tmp_path: Path, text: str | bytes, problem: str) -> None:
    assert errors(tmp_path, text) == ["config.toml" + problem]


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def problem(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load(path, Config)
        return str(caught.value)

    monkeypatch.chdir(tmp_path)
    assert problem(Path("no.toml")) == "no.toml: the file does not exist"
    assert problem(Path(".")) == ".: this is a directory, expected a TOML file"
    assert problem(Path("a\0b")) == "a\0b: the file cannot be read: embedded null byte"

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert problem(Path("x.toml")) == "x.toml: the file cannot be read: Permission denied"


# Random documents: a tree of plain values, rendered by a style that hypothesis draws.

KEYS = st.text("abcXYZ019-_", min_size=1, max_size=4) | st.text(
    st.characters(blacklist_categories=["Cs"]), max_size=4
)
TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8) | st.text("\"'\\#[]{}=.,\n a", max_size=9)
LEAVES = (
    st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False)
    | TEXTS
    | st.datetimes().map(lambda when: when.replace(microsecond=0))
    | st.dates()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=5)


class Renderer:
    """Write a tree as TOML in drawn styles."""

    def __init__(self, draw: Callable[..., Any]) -> None:
        """Keep the source of choices."""
        self.draw = draw

    def pick(self, *choices: str) -> str:
        return str(self.draw(st.sampled_from(choices)))

    def gap(self) -> str:
        return self.pick("", " ", "\t ")

    def lines(self) -> str:
        return self.pick("", "", "\n", "  ", " # [x] = 'y'\n", '\n# """ }\n\n')

    def basic(self, text: str) -> str:
        return (
            json.dumps(text).replace("\x7f", "\\u007f")
            if max(text, default="") < "\U00010000"
            else ('"' + "".join(f"\\U{ord(c):08x}" for c in text) + '"')
        )

    def is_literal(self, text: str) -> bool:
        return "'" not in text and all(c == "\t" or (ord(c) >= 32 and c != "\x7f") for c in text)

    def key(self, key: str) -> str:
        forms = [self.basic(key)]
        if self.is_literal(key):
            forms.append(f"'{key}'")
        if key and all(c.isascii() and (c.isalnum() or c in "-_") for c in key):
            forms += [key, key]
        return self.pick(*forms)

    def text(self, text: str) -> str:
        basic = self.basic(text)
        forms = [basic, '"""' + basic[1:-1] + '"""', '"""\n' + basic[1:-1].replace("\\n", "\n") + '"""']
        if "\\" not in basic[1:-1].replace('\\"', ""):
            # Quotes bare inside, and up to two right before the end.
            bare = text.replace('"""', '""\\"')
            if not bare.endswith('"""') and not bare.startswith('"'):
                forms.append(f'"""{bare}"""')
        if self.is_literal(text):
            forms.append(f"'{text}'")
        if self.is_literal(text.replace("\n", "").replace("'", "")) and "'''" not in text:
            forms.append(f"'''\n{text}'''")
        return self.pick(*forms)

    def value(self, value: Any) -> str:
        match value:
            case bool():
                return str(value).lower()
            case str():
                return self.text(value)
            case list():
                items = [f"{self.lines()}{self.value(item)}{self.lines()}" for item in value]
                end = self.pick("", ",") if items else ""
                return "[" + ",".join(items) + end + self.lines() + "]"
            case dict():
                pairs = [self.gap() + pair + self.gap() for pair in self.pairs(value)]
                return "{" + ",".join(pairs) + (self.gap() if not pairs else "") + "}"
        return str(value)

    def pairs(self, table: dict[str, Any], prefix: str = "") -> Iterator[str]:
        """Yield `key = value` pairs; some tables become dotted keys."""
        for key, value in table.items():
            name = prefix + self.key(key)
            if isinstance(value, dict) and value and self.draw(st.booleans()):
                yield from self.pairs(value, f"{name}{self.gap()}.{self.gap()}")
            else:
                yield f"{name}{self.gap()}={self.gap()}{self.value(value)}"

    def table(self, table: dict[str, Any], path: list[str]) -> Iterator[str]:
        """Yield the lines of a table whose header stands above; some children get headers of their own."""
        later = {key for key, value in table.items() if is_table(value) and self.draw(st.booleans())}
        for pair in self.pairs({key: value for key, value in table.items() if key not in later}):
            yield self.gap() + pair + self.gap() + self.pick("", "# = [", "\n")
        for key in sorted(later):
            child = [*path, key]
            value = table[key]
            for item in value if isinstance(value, list) else [value]:
                header = f"{self.gap()}.{self.gap()}".join(self.key(part) for part in child)
                opening, closing = ("[[", "]]") if isinstance(value, list) else ("[", "]")
                # A table that holds only tables needs no header.
                needless = opening == "[" and item and all(isinstance(inner, dict) for inner in item.values())
                if not (needless and self.draw(st.booleans())):
                    end = f"{self.gap()}{closing}{self.pick('', ' # x]')}"
                    yield f"{self.gap()}{opening}{self.gap()}{header}{end}"
                    yield from self.table(item, child)
                else:
                    for inner, deep in item.items():
                        yield "[" + ".".join(self.key(part) for part in [*child, inner]) + "]"
                        yield from self.table(deep, [*child, inner])
                    if self.draw(st.booleans()):
                        yield f"[ {header} ]"


def is_table(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
    )


@st.composite
def rendered(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    tree = draw(DOCUMENTS)
    text = "\n".join(Renderer(draw).table(tree, []))
    return tree, text.replace("\n", "\r\n") if draw(st.booleans()) else text


def paths(tree: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    if path:
        yield path, tree
    children: Any = ()
    if isinstance(tree, dict):
        children = tree.items()
    elif isinstance(tree, list):
        children = enumerate(tree)
    for key, value in children:
        yield from paths(value, (*path, key))


def key_at(text: str) -> str:
    """Read the key that `text` begins with, by tomllib."""
    ends = [end for end in range(1, len(text) + 1) if end == len(text) or text[end] in " \t.=]"]
    for end in ends:
        try:
            (key,) = tomllib.loads(f"{text[:end]} = 1")
        except (tomllib.TOMLDecodeError, ValueError):
            continue
        return str(key)
    raise AssertionError(f"no key at {text[:40]!r}")


def begins(text: str, wanted: Any) -> bool:
    """Say whether `text` begins with the element `wanted`, by tomllib."""
    for end in range(1, len(text) + 1):
        if end < len(text) and text[end] not in ",] \t\n#}":
            continue
        try:
            if tomllib.loads(f"x = {text[:end]}\n")["x"] == wanted:
                return True
        except tomllib.TOMLDecodeError:
            continue
    return False


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(rendered())
def test_the_scanner_finds_what_tomllib_finds(document: tuple[dict[str, Any], str]) -> None:
    _, text = document
    tree = tomllib.loads(text)
    found = positions(text)
    wanted = dict(paths(tree))
    assert set(found) == set(wanted)
    text = text.replace("\r\n", "\n")
    lines = text.split("\n")
    for path, (line, column) in found.items():
        before = lines[line - 1][: column - 1]
        rest = "\n".join([lines[line - 1][column - 1 :], *lines[line:]])
        last = path[-1]
        if isinstance(last, str):
            assert key_at(rest) == last
        elif not begins(rest, wanted[path]):  # an element of an array of tables stands in its header
            assert before.lstrip().startswith("[[")
            assert key_at(rest) == path[-2]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(rendered())
def test_the_renderer_writes_the_tree_it_was_given(document: tuple[dict[str, Any], str]) -> None:
    tree, text = document
    assert tomllib.loads(text) == tree


class Everything(msgspec.Struct, frozen=True):
    """A type to throw random documents at."""

    a: int | None = None


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "config.toml"


def try_load(file: Path, raw: bytes) -> None:
    file.write_bytes(raw)
    for type_ in (Config, Everything):
        try:
            load(file, type_)
        except ConfigError as error:
            assert error.problems
            assert all(problem.startswith(str(file)) and "\n" not in problem for problem in error.problems)


GOOD = (
    'name = "a"\ntags = ["x", \'y\', """z"""]\nregion = [1, 2, 3.5]\n'
    'labels = {a = 1, b.c = "x"}\neither = 3\n'
    '[limits.x]\nhigh = 2\n[[camera]]\nkind = "folder"\nfolder = "in"\nlimits = {low = 0}\n'
    '[[camera]]\nkind = "genicam"\nserial = "1"\nexposure_us = 7 # us\ntrigger = "line"\n'
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(raw=st.binary(max_size=60) | st.text("ab=[]{}.,\"'\\\n#1-:T ", max_size=40).map(str.encode))
def test_random_bytes_raise_nothing_else(file: Path, raw: bytes) -> None:
    try_load(file, raw)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutated_toml_raises_nothing_else(file: Path, data: st.DataObject) -> None:
    text = GOOD
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 8)))
        text = text[:start] + data.draw(st.text("ab01=[]{}.,\"'\\\n# -", max_size=4)) + text[end:]
    try_load(file, text.encode())


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_swapped_values_raise_nothing_else(file: Path, data: st.DataObject) -> None:
    """Keep the keys and give them values of any kind."""
    lines = GOOD.splitlines()
    renderer = Renderer(data.draw)
    for _ in range(3):
        index = data.draw(st.integers(0, len(lines) - 1))
        key, equals, _ = lines[index].partition(" = ")
        if equals:
            lines[index] = f"{key} = {renderer.value(data.draw(VALUES))}"
    try_load(file, "\n".join(lines).encode())
