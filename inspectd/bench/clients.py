"""The crowd of `inspectd bench crowd`: many subscribers, half of them stopped, and a flood of questions.

Both run in niced processes of their own, from scripts that need nothing of the daemon.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from inspectd.bench.line import BenchLine
from inspectd.runtime.errors import UserError

SUBSCRIBERS, STOPPED = 20, 10
CATCH_UP_S = 60.0

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
            raise UserError("a subscriber of the crowd failed: what it said is above; run it again")
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


def start_flood(query: str) -> subprocess.Popen[str]:
    """Start the flood of questions to this endpoint; it writes a line when it begins."""
    return subprocess.Popen([sys.executable, "-c", NICED + FLOOD, query], stdout=subprocess.PIPE, text=True)
