"""`inspectd bench crowd`: do many subscribers, half of them stopped, and a flood of questions hold up a result?

One daemon on a simulated camera, in turn alone with one subscriber, and with the crowd and the flood. What is
measured is in the results themselves: frame in the ring -> result handed to the socket. Crowd and flood are niced:
not the cores are to be fought for, but the publish loop. What the flood makes the daemon itself do is part of it.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from inspectd.bench.line import BenchLine
from inspectd.bench.wire import FAILED, Wire
from inspectd.publish.journal.writer import Journal, boot_id
from inspectd.runtime.errors import UserError
from inspectd.runtime.frame import Reason
from inspectd.settings.config import Settings
from inspectd.settings.publish import Publish
from inspectd.subscribe import Received

RATE_HZ = 10.0
SUBSCRIBERS, STOPPED = 20, 10
KEPT_BEFORE = 5000
"""Number of results in the journal before the daemon starts, for the flood to ask for."""
HIGH_WATER_MARK = 20
"""High-water mark of the results; stopped subscribers lose some within seconds, and must ask for them."""
SETTLE_S, CATCH_UP_S = 1.0, 60.0
RATIO_BAR, DIFFERENCE_BAR_MS = 1.2, 0.1
"""Most ratio and most difference of the two states' delays; one of the two bars is to be kept."""
CAMERA = f'trigger = "free_run"\nacquisition_frame_rate_hz = {RATE_HZ}\npart_id = "counter"\nspare_slots = 8'

NICED = """
import ctypes, json, os, signal, sys
from pathlib import Path

os.setsid()
os.nice(19)
try:  # the kernel may share the cores out between sessions first: then nice counts within one alone
    Path("/proc/self/autogroup").write_text("19")
except OSError:
    pass
"""
CROWD = """
from inspectd.subscribe import Beat, Missed, Received, Results

endpoint, until, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
for _ in range(count):
    parent = os.getpid()
    if os.fork() == 0:
        break
else:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            sys.exit()
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: not longer than the bench
if os.getppid() != parent:
    sys.exit()

def say(**words):
    os.write(1, (json.dumps({"pid": os.getpid(), **words}) + "\\n").encode())

heard, first, newest, wrong = False, 0, 0, 0
with Results(endpoint) as subscriber:
    for event in subscriber:
        if isinstance(event, Received):
            first = first or event.seq
            wrong += newest not in (0, event.seq - 1)
            newest = event.seq
        elif isinstance(event, Missed):
            wrong += event.last - event.first + 1
        elif isinstance(event, Beat) and not heard:
            heard = True
            say()
        if until.exists() and newest >= int(until.read_text()):
            break
say(first=first, newest=newest, wrong=wrong)
"""
FLOOD = """
import itertools
import zmq

ctypes.CDLL(None).prctl(1, signal.SIGKILL)
context = zmq.Context()
reads, never_reads = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
for socket in (reads, never_reads):
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(sys.argv[1])
reads.send(b'{"verb": "snapshot", "id": 1}')
known = json.loads(reads.recv())
replay = {"verb": "replay", "id": 1, "epoch": known["oldest"]["epoch"], "from": known["oldest"]["first"]}
questions = [
    [json.dumps(replay).encode()],
    [b'{"verb": "snapshot", "id": 2}'],
    [os.urandom(300)],
    [json.dumps({**replay, "from": replay["from"] + 300}).encode()],
    [b"[" * 50_000],
    [b"", json.dumps(replay).encode()],
    [b"x"] * 200,
    [os.urandom(60_000)],
    [json.dumps({**replay, "epoch": 1}).encode()],
]
print("floods", flush=True)
for question in itertools.cycle(questions):
    for socket in (reads, never_reads):
        try:
            socket.send_multipart(question, zmq.DONTWAIT)
        except zmq.Again:
            pass
    while reads.poll(0):
        reads.recv_multipart()
"""


class Delay(msgspec.Struct, frozen=True):
    """Milliseconds from the frame in the ring to its result handed to the socket."""

    results: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    deadline: int
    """Number of results that are UNKNOWN/`deadline`."""
    unknown: int
    """Number of results that are UNKNOWN for any other reason for which no picture was judged."""


class Round(msgspec.Struct, frozen=True):
    """One round of the measurement: first the daemon with one subscriber, then with the crowd."""

    alone: Delay
    crowd: Delay
    answered: int
    """Number of the flood's questions that were answered."""
    refused: int
    dropped: int


class Crowd(msgspec.Struct, frozen=True):
    """Medians over the rounds, and the judgement of them."""

    rounds: list[Round]
    alone_ms: float
    crowd_ms: float
    ratio: float
    difference_ms: float
    deadline: int
    """Number of deadlines missed in all rounds, in both states."""
    wrong: int
    """Number of results that a subscriber, stopped or not, got twice, in disorder, or not at all."""
    kept: bool
    """Whether ratio or difference is within the bar, no deadline missed and no result wrong."""


class Subscribers:
    """The crowd: processes forked from one, so that they are small."""

    def __init__(self, endpoint: str, folder: Path) -> None:
        self._until = folder / "until"
        self._until.unlink(missing_ok=True)
        command = [sys.executable, "-c", NICED + CROWD, endpoint, str(self._until), str(SUBSCRIBERS)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._pids = [int(self._read()["pid"]) for _ in range(SUBSCRIBERS)]

    def _read(self) -> dict[str, int]:
        assert self._process.stdout is not None
        words: dict[str, int] = msgspec.json.decode(self._process.stdout.readline() or "{}", type=dict[str, int])
        if not words:
            raise UserError("a subscriber of the crowd failed")
        return words

    def stop_half(self) -> None:
        """Stop half of the subscribers, by SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def finish(self, newest: int, line: BenchLine) -> int:
        """Let the stopped ones go on; when all have got result `newest`, give how many results went wrong."""
        self._signal(signal.SIGCONT)
        written = self._until.with_name("until.new")
        written.write_text(str(newest))
        written.rename(self._until)
        line.until(lambda: self._process.poll() is not None, CATCH_UP_S, "the crowd does not catch up")
        return sum(self._read()["wrong"] for _ in range(SUBSCRIBERS))

    def kill(self) -> None:
        """Kill the crowd's first process; its children die with it."""
        self._process.kill()
        self._process.wait()

    def _signal(self, number: int) -> None:
        for pid in self._pids[:STOPPED]:
            os.kill(pid, number)


def bench_crowd(settings: Settings, seconds: float, rounds: int, json: bool) -> None:
    """Measure each round and print it, then what they come to."""
    with tempfile.TemporaryDirectory(prefix="inspectd-") as temporary:
        folder = Path(temporary)
        line = BenchLine(settings, folder, CAMERA, HIGH_WATER_MARK)
        _fill(settings, line.state_dir / "journal", folder)
        done, wrong = [], 0
        with line:
            for _ in range(rounds):
                one, more = _round(line, seconds)
                done.append(one)
                wrong += more
                if not json:
                    print(_round_text(one), flush=True)
    result = _result(done, wrong)
    print(msgspec.json.encode(result).decode() if json else _text(result))


def _fill(settings: Settings, journal: Path, folder: Path) -> None:
    kept = Journal(journal, settings.config.journal, boot_id())
    wire = Wire(Publish(results=f"ipc://{folder}/filling"), kept)
    wire.results(FAILED, KEPT_BEFORE)
    wire.close()
    kept.close()


def _round(line: BenchLine, seconds: float) -> tuple[Round, int]:
    alone = _delay(_observe(line, seconds))
    crowd, before = Subscribers(line.endpoint, line.folder), line.counts
    flood = subprocess.Popen(
        [sys.executable, "-c", NICED + FLOOD, f"ipc://{line.folder}/query"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert flood.stdout is not None
        flood.stdout.readline()
        crowd.stop_half()
        results = _observe(line, seconds)
        flood.kill()
        flood.wait()
        after = line.counts
        wrong = crowd.finish(results[-1].seq, line)
    finally:
        flood.kill()
        flood.communicate()
        crowd.kill()
    answered, refused, dropped = (
        after[f"query_{what}"] - before[f"query_{what}"] for what in ("answered", "refused", "dropped")
    )
    return Round(alone, _delay(results), answered, refused, dropped), wrong


def _observe(line: BenchLine, seconds: float) -> list[Received]:
    """Give the results of so many seconds, after the line has settled."""
    for length_s in (SETTLE_S, seconds):
        line.results.clear()
        until_s = time.monotonic() + length_s
        while (left_s := until_s - time.monotonic()) > 0:
            line.take(min(left_s, 0.5))
    if not line.results:
        raise UserError("the daemon sent no results; its log:\n" + (line.folder / "log").read_text()[-2000:])
    return list(line.results)


def _delay(results: list[Received]) -> Delay:
    times = [one.result.times for one in results]
    took_ms = [(at.publish_us - at.ring_us) / 1e3 for at in times if at.ring_us is not None]
    reasons = [one.result.reason for one in results]
    judged = (Reason.NONE, Reason.DEFECT, Reason.UNDECIDED, Reason.IMAGE, Reason.DEADLINE)
    return Delay(
        len(results), round(statistics.median(took_ms), 3), round(float(np.percentile(took_ms, 99)), 3),
        round(max(took_ms), 3), reasons.count(Reason.DEADLINE), sum(reason not in judged for reason in reasons),
    )  # fmt: skip


def _result(rounds: list[Round], wrong: int) -> Crowd:
    ratio = statistics.median(one.crowd.p50_ms / one.alone.p50_ms for one in rounds)
    difference_ms = statistics.median(one.crowd.p50_ms - one.alone.p50_ms for one in rounds)
    missed = sum(one.alone.deadline + one.crowd.deadline for one in rounds)
    in_time = ratio <= RATIO_BAR or difference_ms <= DIFFERENCE_BAR_MS
    return Crowd(
        rounds,
        round(statistics.median(one.alone.p50_ms for one in rounds), 3),
        round(statistics.median(one.crowd.p50_ms for one in rounds), 3),
        round(ratio, 3), round(difference_ms, 3), missed, wrong, in_time and not missed and not wrong,
    )  # fmt: skip


def _round_text(one: Round) -> str:
    return (
        f"alone {_delay_text(one.alone)}; crowd {_delay_text(one.crowd)}; "
        f"questions answered {one.answered}, refused {one.refused}, dropped {one.dropped}"
    )


def _delay_text(delay: Delay) -> str:
    return (
        f"p50 {delay.p50_ms:.2f} ms, p99 {delay.p99_ms:.2f}, max {delay.max_ms:.2f} ({delay.results} results, "
        f"{delay.deadline} past the deadline, {delay.unknown} otherwise unknown)"
    )


def _text(result: Crowd) -> str:
    verdict = "kept" if result.kept else "NOT KEPT"
    return (
        f"frame in the ring -> handed to the socket, medians: alone with one subscriber {result.alone_ms:.2f} ms, "
        f"with\n{SUBSCRIBERS} of which {STOPPED} are stopped, and a flood on query, {result.crowd_ms:.2f} ms: "
        f"ratio {result.ratio:.3f}, difference {result.difference_ms:.3f} ms\n"
        f"(bar: {RATIO_BAR} or {DIFFERENCE_BAR_MS} ms); deadlines missed {result.deadline}, results that went "
        f"wrong at a subscriber {result.wrong};\ncrowd and flood are niced: {verdict}"
    )
