"""`inspectd watch`: the results of a line on a terminal, or as one JSON line each."""

import sys
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from inspectd.runtime.frame import Verdict
from inspectd.subscribe.client import Results
from inspectd.subscribe.events import Beat, Event, Missed, NewEpoch, Received, Silence
from inspectd.wire.keys import Keys
from inspectd.wire.results import Heartbeat, WireError

ROWS = 15
WELL = "ContinuousExecution"
COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.UNKNOWN: "yellow"}


class Foreign(NamedTuple):
    """A message came that no inspectd of this version sends."""

    why: str


def as_json(received: Received) -> str:
    """A result as one line: the body's keys, and `seq` and `epoch` of its header."""
    line = {"seq": received.header.seq, "epoch": received.header.epoch} | msgspec.to_builtins(received.result)
    return msgspec.json.encode(line).decode()


def trouble(event: Event | Foreign) -> str:
    """Describe the loss or silence that an event reports; empty if none."""
    match event:
        case Missed(first, last):
            return f"gap: {last - first + 1} results can't be had any more, {first} to {last}"
        case NewEpoch():
            return "new epoch: the daemon began a new journal, or goes on with an old one"
        case Silence(seconds):
            return f"silence: nothing heard of the daemon for {seconds:.1f} s"
        case Foreign(why):
            return f"foreign message: {why}"
    return ""


def watch(endpoint: str, count: int | None, json: bool, keys: Keys | None = None) -> None:
    """Show results until `count` of them were shown or Ctrl-C; loss and silence are always reported."""
    show = _print_json if json else _live if sys.stdout.isatty() else _print_plain
    with suppress(KeyboardInterrupt), Results(endpoint, keys=keys) as subscriber:
        show(subscriber, count)


def _receive(subscriber: Results, timeout_s: float) -> Event | Foreign | None:
    try:
        return subscriber.receive(timeout_s)
    except WireError as error:
        return Foreign(str(error))


def _print_json(subscriber: Results, count: int | None) -> None:
    _print(subscriber, count, as_json)


def _print_plain(subscriber: Results, count: int | None) -> None:
    _print(subscriber, count, lambda received: "  ".join(str(cell) for cell in _row(received)))


def _print(subscriber: Results, count: int | None, text: Callable[[Received], str]) -> None:
    shown, shown_state = 0, WELL
    while count is None or shown < count:
        event = _receive(subscriber, 1.0)
        if isinstance(event, Received):
            print(text(event), flush=True)
            shown += 1
        elif isinstance(event, Beat):
            state, detail = event.heartbeat.state, event.heartbeat.detail
            if (state if state == WELL else f"{state}: {detail}") != shown_state:
                shown_state = state if state == WELL else f"{state}: {detail}"
                print(shown_state, file=sys.stderr, flush=True)
        elif event is not None and (words := trouble(event)):
            print(words, file=sys.stderr, flush=True)


class _Screen:
    """What the live table shows."""

    def __init__(self) -> None:
        self.rows: deque[Received] = deque(maxlen=ROWS)
        self.verdicts: Counter[Verdict] = Counter()
        self.missing = 0
        self.beat: Heartbeat | None = None
        self.silence_s = 0.0
        self.foreign = ""

    def take(self, event: Event | Foreign) -> None:
        if not isinstance(event, Silence):
            self.silence_s = 0.0
        match event:
            case Received(_, result):
                self.rows.append(event)
                self.verdicts[result.verdict] += result.parts
            case Missed(first, last):
                self.missing += last - first + 1
            case Beat(_, heartbeat):
                self.beat = heartbeat
            case Silence(seconds):
                self.silence_s = seconds
            case Foreign():
                self.foreign = trouble(event)

    def render(self) -> Group:
        return Group(
            self._table(),
            *(Text(line, style, no_wrap=True, overflow="ellipsis") for line, style in self._status()),
        )

    def _table(self) -> Table:
        """Draw all columns whole but the text: where the terminal is narrow, that alone is cropped."""
        table = Table(box=None, pad_edge=False)
        for title in ("time", "seq", "camera", "part", "verdict", "", "ms"):
            right = title in ("seq", "part", "ms")
            table.add_column(title, justify="right" if right else "left", no_wrap=bool(title))
        for received in self.rows:
            time, seq, camera, part, verdict, text, ms = _row(received)
            colour = COLOURS[received.result.verdict]
            # rich narrows the columns that may wrap; this one may, so that its cells, which may not, are cropped
            cropped = Text(text, no_wrap=True, overflow="ellipsis")
            table.add_row(time, seq, camera, part, Text(verdict, style=f"bold {colour}"), cropped, ms)
        return table

    def _status(self) -> list[tuple[str, str]]:
        """Lines below the table and their styles; each is cropped to the terminal's width."""
        counts = "  ".join(f"{verdict} {self.verdicts[verdict]}" for verdict in Verdict)
        foreign = [(self.foreign, "bold yellow")] if self.foreign else []
        if self.silence_s:
            silent = f"SILENT: nothing heard of the daemon for {self.silence_s:.0f} s"
            return [(f"{counts}   {silent}", "bold red"), *foreign]
        if self.beat is None:
            return [("waiting for the daemon", "yellow"), *foreign]
        style = "" if self.beat.state == WELL and not self.missing else "bold yellow"
        gaps = f"   MISSING {self.missing}" if self.missing else ""
        runs = f"line {self.beat.line}: {self.beat.model.name} on {self.beat.engine}"
        return [(f"{counts}{gaps}   {self.beat.state}, {self.beat.detail}", style), (runs, ""), *foreign]


def _live(subscriber: Results, count: int | None) -> None:
    screen, shown = _Screen(), 0
    with Live(console=Console(), auto_refresh=False, vertical_overflow="crop") as live:
        while count is None or shown < count:
            event = _receive(subscriber, 0.5)
            if event is None:
                continue
            screen.take(event)
            shown += isinstance(event, Received)
            live.update(screen.render(), refresh=True)


def _row(received: Received) -> tuple[str, str, str, str, str, str, str]:
    result = received.result
    when = datetime.fromtimestamp(result.times.trigger_utc_ns / 1e9).strftime("%H:%M:%S.%f")[:-3]
    regions = ", ".join(
        f"{r.class_} {r.score:.2f} at {r.bbox[0]},{r.bbox[1]} {r.bbox[2]}x{r.bbox[3]}" for r in result.regions[:2]
    )
    more = f" +{len(result.regions) - 2}" if len(result.regions) > 2 else ""
    why = result.detail or result.reason if result.verdict is Verdict.UNKNOWN else ""
    text = "; ".join(part for part in (why, regions + more) if part)
    ms = f"{result.times.publish_us / 1e3:.1f}"
    part = f"{result.part_id}-{result.last_part_id}" if result.parts > 1 else str(result.part_id)
    return when, str(received.seq), result.camera, part, result.verdict, text, ms
