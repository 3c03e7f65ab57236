"""What `inspectd watch` shows on a terminal: as many results as it has room for, and how the line does below."""

import textwrap
from collections import Counter, deque
from datetime import datetime
from itertools import accumulate
from typing import NamedTuple

from rich.console import Group
from rich.text import Text

from inspectd.runtime.frame import Verdict
from inspectd.subscribe.events import Beat, Event, Missed, Received, Silence
from inspectd.wire.results import Heartbeat, Result

MOST_ROWS = 500
"""Results kept for a terminal that becomes higher."""
WELL = "ContinuousExecution"
COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.UNKNOWN: "yellow"}
GAP = "  "
LEAST_TEXT = 20
"""Columns from which on the text of a result stands beside its numbers; where there are fewer, below them."""
HINT_S = 5.0
"""Seconds of silence from the start after which it is said what to check."""
ALLOWED = "A region beside a PASS is one that the limits of the recipe allow."
LEAST_WIDTHS = {"time": 12, "seq": 6, "camera": 6, "part": 6, "frame": 6, "verdict": 7, "ms": 6}
NUMBERS = ("seq", "part", "frame", "ms")


class Foreign(NamedTuple):
    """A message came that no inspectd of this version sends."""

    why: str


class Row(NamedTuple):
    """One result in words."""

    time: str
    seq: str
    camera: str
    part: str
    frame: str
    """The camera's own count of the trigger, as `inspectd ctl trigger` and `inspectd simcam trigger` name it."""
    verdict: str
    ms: str
    """Time from trigger to message."""
    text: str


def row_of(received: Received) -> Row:
    """A result in words: what its part is called elsewhere, why it is UNKNOWN, its first two regions."""
    result = received.result
    when = datetime.fromtimestamp(result.times.trigger_utc_ns / 1e9).strftime("%H:%M:%S.%f")[:-3]
    regions = [
        f"{r.class_} {r.score:.2f} at {r.bbox[0]},{r.bbox[1]} {r.bbox[2]}x{r.bbox[3]}" for r in result.regions[:2]
    ]
    more = f" +{len(result.regions) - 2}" if len(result.regions) > 2 else ""
    why = result.detail or result.reason if result.verdict is Verdict.UNKNOWN else ""
    called = f"part_ref {result.part_ref}" if result.part_ref else ""
    text = "; ".join(words for words in (called, why, ", ".join(regions) + more) if words)
    parts, frames = _numbers(result)
    ms = f"{result.times.publish_us / 1e3:.1f}"
    return Row(when, str(received.seq), result.camera, parts, frames, result.verdict, ms, printable(text))


def _numbers(result: Result) -> tuple[str, str]:
    """Part and frame of a result, or the first and last of those that it stands for."""
    more = result.parts - 1
    return tuple(f"{n}-{n + more}" if more else str(n) for n in (result.part_id, result.frame_id))  # type: ignore[return-value]


def printable(text: str) -> str:
    """The text without what would steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def trouble(event: Event | Foreign) -> str:
    """Describe the loss or silence that an event reports; empty if none."""
    match event:
        case Missed(first, last):
            return f"gap: {last - first + 1} results can't be had any more, {first} to {last}"
        case Silence(seconds):
            return f"silence: nothing heard of the daemon for {seconds:.1f} s"
        case Foreign(why):
            return f"foreign message: {printable(why)}"
        case Received() | Beat():
            return ""
    return "new epoch: the daemon began a new journal, or goes on with an old one"


def what_to_check(endpoint: str) -> str:
    """The sentence for a daemon that was never heard."""
    keys = "" if endpoint.startswith("ipc://") else " Does it want keys (--server-key and --key)?"
    return (
        f"nothing was ever heard at {endpoint}: does the daemon run, and is this its `results` under [publish] "
        f"(-c takes its config, --connect the endpoint)?{keys} Still listening."
    )


class Screen:
    """What was heard so far of the daemon at an endpoint, drawn as lines of a terminal."""

    def __init__(self, endpoint: str) -> None:
        self.verdicts: Counter[Verdict] = Counter()
        self.missing = 0
        self.beat: Heartbeat | None = None
        self._endpoint = endpoint
        self._rows: deque[tuple[Row, Result]] = deque(maxlen=MOST_ROWS)
        self._widths = dict(LEAST_WIDTHS)
        self._counts_apart = False  # whether part and frame were ever two numbers
        self._silence_s = 0.0
        self._foreign = ""

    def take(self, event: Event | Foreign) -> None:
        """Note an event."""
        if not isinstance(event, Silence):
            self._silence_s = 0.0
        match event:
            case Received(_, result):
                self._add(row_of(event), result)
            case Missed(first, last):
                self.missing += last - first + 1
            case Beat(_, heartbeat):
                self.beat = heartbeat
            case Silence(seconds):
                self._silence_s = seconds
            case Foreign():
                self._foreign = trouble(event)

    def _add(self, row: Row, result: Result) -> None:
        """Add a result. A column becomes wider, and stays so: none ever moves back and forth."""
        self._rows.append((row, result))
        self.verdicts[result.verdict] += result.parts
        self._counts_apart = self._counts_apart or row.part != row.frame
        for title in self._widths:
            self._widths[title] = max(self._widths[title], len(getattr(row, title)))

    def render(self, width: int, height: int, fill: bool = True) -> Group:
        """Draw the newest results that there is room for, and below them how the line does.

        width, height: of the terminal, in cells. fill: blank lines take what room is left.
        """
        below = [Text(line, style) for text, style in self._status() for line in fold(text, width)]
        room = max(1, height - 1 - len(below))
        columns = self._columns(width)
        blocks = [_block(row, result, columns, width) for row, result in list(self._rows)[-room:]]
        sizes = accumulate(len(block) for block in reversed(blocks))
        fitting = sum(size <= room for size in sizes)
        rows = [line for block in blocks[len(blocks) - fitting :] for line in block]
        blank = [Text()] * (room - len(rows) if fill else 0)
        titles = _head({title: title for title in columns}, columns)
        return Group(*(_cropped(line, width) for line in (titles, *rows, *blank, *below)))

    def _columns(self, width: int) -> dict[str, int]:
        """Titles and widths. Where they have no room, names of cameras are shortened: nothing else can be."""
        columns = {t: own for t, own in self._widths.items() if t != "frame" or self._counts_apart}
        beyond = sum(columns.values()) + len(GAP) * (len(columns) - 1) - width
        if beyond > 0:
            columns["camera"] = max(LEAST_WIDTHS["camera"], columns["camera"] - beyond)
        return columns

    def _status(self) -> list[tuple[str, str]]:
        """What is said below the results, and in which style."""
        said: list[tuple[str, str]] = []
        if any(result.verdict is Verdict.PASS and result.regions for _, result in self._rows):
            said.append((ALLOWED, "dim"))
        if self._foreign:
            said.append((self._foreign, "bold yellow"))
        if self.beat is None and not self._rows:
            if self._silence_s < HINT_S:
                return [*said, (f"waiting for the daemon at {self._endpoint}", "yellow")]
            return [*said, (f"{self._silence_s:.0f} s: {what_to_check(self._endpoint)}", "bold red")]
        counts = "  ".join(f"{verdict} {self.verdicts[verdict]}" for verdict in Verdict)
        if self._silence_s:
            silent = f"SILENT: nothing heard of the daemon at {self._endpoint} for {self._silence_s:.0f} s"
            said.append((f"{counts}   {silent}", "bold red"))
        elif self.beat is not None:
            style = "" if self.beat.state == WELL and not self.missing else "bold yellow"
            gaps = f"   MISSING {self.missing}" if self.missing else ""
            said.append((f"{counts}{gaps}   {self.beat.state}, {self.beat.detail}", style))
        return [*said, (self._line(), "")] if self.beat is not None else said

    def _line(self) -> str:
        assert self.beat is not None
        recipe, model = self.beat.recipe, self.beat.model
        return (
            f"line {self.beat.line} at {self._endpoint}: recipe {recipe.id} {recipe.revision}, "
            f"model {model.name} on {self.beat.engine}"
        )


def _head(cells: dict[str, str], columns: dict[str, int], style: str = "") -> Text:
    """The cells of a line, each as wide as its column; `style` is that of the verdict."""
    head = Text(end="")
    for i, (title, width) in enumerate(columns.items()):
        text = cells[title]
        text = text if len(text) <= width else text[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"
        head.append(GAP * (i > 0))
        head.append(text.rjust(width) if title in NUMBERS else text.ljust(width), style * (title == "verdict"))
    return head


def _block(row: Row, result: Result, columns: dict[str, int], width: int) -> list[Text]:
    """A result in one line, or in several where its text is folded."""
    head = _head(row._asdict(), columns, f"bold {COLOURS[result.verdict]}")
    if not row.text:
        return [head]
    beside = width - len(head) - len(GAP)
    if beside < LEAST_TEXT:
        return [head, *(Text(GAP + line) for line in fold(row.text, width - len(GAP)))]
    first, *others = fold(row.text, beside)
    indent = " " * (len(head) + len(GAP))
    return [head.append(GAP + first), *(Text(indent + line) for line in others)]


def fold(text: str, width: int) -> list[str]:
    """The text in lines of at most so many characters, broken between words as far as these fit."""
    return textwrap.wrap(printable(text), max(1, width), break_on_hyphens=False) or [""]


def _cropped(line: Text, width: int) -> Text:
    line = line.copy()
    line.no_wrap, line.end = True, "\n"
    line.truncate(width, overflow="ellipsis")
    return line
