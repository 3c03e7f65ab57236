"""`inspectd watch`: the results of a line on a terminal, or as one line each."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
from rich.console import Console
from rich.live import Live

from inspectd.subscribe.client import Results
from inspectd.subscribe.events import Beat, Event, Received, Silence
from inspectd.subscribe.screen import HINT_S, WELL, Foreign, Screen, row_of, trouble, what_to_check
from inspectd.wire.keys import Keys
from inspectd.wire.results import WireError

DRAW_S = 0.05
"""Shortest time between two drawings of the terminal, in seconds."""
TELL_AGAIN_S = 60.0
"""Seconds between two words about a silence that goes on, once it was said what to check."""


def watch(endpoint: str, count: int | None, json: bool, keys: Keys | None = None) -> None:
    """Show results until `count` of them were shown or Ctrl-C; loss and silence are always reported."""
    with suppress(KeyboardInterrupt), Results(endpoint, keys=keys) as subscriber:
        if json:
            _print(subscriber, endpoint, count, as_json)
        elif fills_terminal():
            _live(subscriber, endpoint, count)
        else:
            _print(subscriber, endpoint, count, lambda received: "  ".join(row_of(received)).rstrip())


def fills_terminal() -> bool:
    """Whether results are drawn on a terminal that is taken over as a whole, and given back as it was."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def as_json(received: Received) -> str:
    """A result as one line: the body's keys, and `seq` and `epoch` of its header."""
    line = {"seq": received.header.seq, "epoch": received.header.epoch} | msgspec.to_builtins(received.result)
    return msgspec.json.encode(line).decode()


def _receive(subscriber: Results, timeout_s: float) -> Event | Foreign | None:
    try:
        return subscriber.receive(timeout_s)
    except WireError as error:
        return Foreign(str(error))


def _print(subscriber: Results, endpoint: str, count: int | None, text: Callable[[Received], str]) -> None:
    """Print each result, and on the standard error what else is to be known."""
    shown, shown_state, silence = 0, WELL, Quiet(endpoint)
    while count is None or shown < count:
        event = _receive(subscriber, 1.0)
        if event is None:
            continue
        words = silence.words(event) if isinstance(event, Silence) else trouble(event)
        silence.heard = silence.heard or not isinstance(event, Silence | Foreign)
        if isinstance(event, Received):
            print(text(event), flush=True)
            shown += 1
        elif isinstance(event, Beat):
            state, detail = event.heartbeat.state, event.heartbeat.detail
            if (state if state == WELL else f"{state}: {detail}") != shown_state:
                words = shown_state = state if state == WELL else f"{state}: {detail}"
        if words:
            print(words, file=sys.stderr, flush=True)


class Quiet:
    """What is said of a silence: every second at first, then what to check, and from then on rarely."""

    def __init__(self, endpoint: str) -> None:
        self.heard = False
        """Whether the daemon was ever heard."""
        self._endpoint = endpoint
        self._next_s = 0.0

    def words(self, silence: Silence) -> str:
        """What to say now; empty if nothing."""
        if silence.seconds < HINT_S:
            self._next_s = HINT_S
            return trouble(silence)
        if silence.seconds < self._next_s:
            return ""
        self._next_s = silence.seconds + TELL_AGAIN_S
        return f"{trouble(silence)} at {self._endpoint}" if self.heard else what_to_check(self._endpoint)


def _live(subscriber: Results, endpoint: str, count: int | None) -> None:
    """Take over the terminal; at the end it is given back, and shows the last results."""
    screen, shown, drawn_s = Screen(endpoint), 0, 0.0
    console = Console()
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while count is None or shown < count:
                event = _receive(subscriber, DRAW_S * 5)
                if event is not None:
                    screen.take(event)
                    shown += isinstance(event, Received)
                if event is None or time.monotonic() - drawn_s >= DRAW_S:
                    live.update(screen.render(*console.size), refresh=True)
                    drawn_s = time.monotonic()
    finally:
        console.print(screen.render(*console.size, fill=False))
