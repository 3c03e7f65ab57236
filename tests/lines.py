"""A small real line for tests: images, bundle, config, and the daemon as a user would start it."""

import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import pytest

from inspectd.acquire.simcam.sim import sim_folder
from inspectd.acquire.simcam.world import Rig, camera_path
from inspectd.subscribe import Beat, Event, Received, Results, Silence
from inspectd.wire.results import Heartbeat, Result
from tests.bundles import spotted, write_bundle

WIDTH, HEIGHT = 160, 128
SPOT = (40, 48, 24, 16)
"""x, y, w, h of the black spot that every second image has."""
SLOTS = "spare_slots = 32"  # enough for a machine that has more to do than this
USUAL = f"acquisition_frame_rate_hz = 50.0\n{SLOTS}"


def inspectd(
    *arguments: str | Path, timeout_s: float = 60, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [sys.executable, "-m", "inspectd", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, cwd=cwd)


class Line:
    """A folder with everything one line needs. Image i (from 1) is spotted if i is even."""

    def __init__(self, folder: Path, images: int = 4) -> None:
        self.folder = folder
        self.endpoint = f"ipc://{folder}/results"
        self.config = folder / "config.toml"
        self.images = folder / "parts"
        self._started: list[subprocess.Popen[str]] = []
        self.images.mkdir()
        for i in range(1, images + 1):
            picture = spotted(HEIGHT, WIDTH, 3, [SPOT] if i % 2 == 0 else [])
            cv2.imwrite(str(self.images / f"part_{i:03d}.png"), picture[:, :, ::-1])
        write_bundle(folder / "dark")
        self.write()

    def write(self, camera: str = USUAL, recipe: str = "dark/recipe.toml") -> None:
        """Write config.toml; `camera` holds further lines of the camera's table."""
        self.config.write_text(
            f'line = "test"\nrecipes = ["{recipe}"]\n\n[publish]\nresults = "{self.endpoint}"\n\n'
            f'[[camera]]\nname = "top"\nkind = "folder"\nfolder = "parts"\n'
            f"width = {WIDTH}\nheight = {HEIGHT}\n{camera}\n"
        )

    def write_sim(self, *cameras: str, images: str = "parts") -> None:
        """Write config.toml with simulated GenICam cameras, each with these further lines: cam0, cam1, …"""
        text = f'line = "test"\nrecipes = ["dark/recipe.toml"]\n\n[publish]\nresults = "{self.endpoint}"\n'
        for i, more in enumerate(cameras):
            text += f'\n[[camera]]\nname = "cam{i}"\nkind = "sim"\nfolder = "{images}"\n'
            text += f"width = {WIDTH}\nheight = {HEIGHT}\n{more}\n"
            text += "" if "spare_slots" in more else f"{SLOTS}\n"
        self.config.write_text(text)

    def rig(self, camera: int = 0) -> Rig:
        """The machine around a simulated camera, which the daemon has made."""
        return Rig(camera_path(sim_folder(self.state_dir), f"cam{camera}"))

    def start(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start the daemon; its log is in `log`."""
        command = [sys.executable, "-m", "inspectd", "run", "-c", str(self.config), *arguments]
        with (self.folder / "log").open("a") as log:
            return self.spawn(command, stdout=log, stderr=log, env={**os.environ, **(env or {})})

    def spawn(self, command: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
        """Start any program that must not outlive the test."""
        self._started.append(subprocess.Popen(command, text=True, **options))
        return self._started[-1]

    def close(self) -> None:
        """Kill what a failed test left running; its camera processes die with it."""
        for process in self._started:
            process.kill()
            process.wait(20)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    @property
    def log(self) -> str:
        """What the daemon wrote so far."""
        return (self.folder / "log").read_text()

    @property
    def state_dir(self) -> Path:
        return self.folder / "state/test"


class Triggers:
    """A hardware trigger that counts on its own: a mapped file that no process of ours writes to."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8)
        self.count = 0

    def fire(self) -> None:
        self.count += 1
        struct.pack_into("=Q", self._map, 0, self.count)


def stop(daemon: subprocess.Popen[str], number: int = signal.SIGTERM, timeout_s: float = 20) -> int:
    """Signal the daemon and wait for its exit code."""
    daemon.send_signal(number)
    return daemon.wait(timeout_s)


def collect(subscriber: Results, until, timeout_s: float = 30) -> list[Event]:
    """Events until `until(events)` holds; fails after the time-out."""
    events: list[Event] = []
    end_s = time.monotonic() + timeout_s
    while not until(events):
        assert time.monotonic() < end_s, f"nothing but {events[-5:]}"
        if event := subscriber.receive(0.2):
            events.append(event)
    return events


def to_the_end(subscriber: Results, timeout_s: float = 30) -> list[Event]:
    """All that a daemon which ends still sends: `Halted` is said while the last frames get their results, too."""
    return collect(
        subscriber,
        lambda events: bool(events) and isinstance(events[-1], Silence) and seen_halted(events),
        timeout_s,
    )


def seen_halted(events: list[Event]) -> bool:
    return any(beat.state == "Halted" for beat in beats_of(events))


def each(results: Iterable[Result], number: str = "frame_id") -> list[int]:
    """This number of every part, in the order of their results: a range is one result of many parts."""
    return [getattr(r, number) + n for r in results for n in range(r.parts)]


def results_of(events: list[Event]) -> list[Received]:
    return [event for event in events if isinstance(event, Received)]


def beats_of(events: list[Event]) -> list[Heartbeat]:
    return [event.heartbeat for event in events if isinstance(event, Beat)]


def state_is(state: str):
    """For `collect`: the newest heartbeat has this state."""
    return lambda events: bool(beats := beats_of(events[-1:])) and beats[0].state == state


def camera_runs_again(starts: int):
    """For `collect`: the newest heartbeat counts so many camera processes, and the line inspects. Preoperational
    in between may be shorter than the pause between two heartbeats.
    """

    def holds(events: list[Event]) -> bool:
        beats = beats_of(events[-1:])
        return (
            bool(beats)
            and beats[0].cameras["top"].process_starts == starts
            and state_is("ContinuousExecution")(events)
        )

    return holds


def camera_process_of(daemon: subprocess.Popen[str]) -> int | None:
    """The pid of the daemon's first camera process; None while there is none."""
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    return int(children[0]) if children else None


HOLDER = """
import ctypes, os, sys, time
libc, (pid, thread) = ctypes.CDLL(None), map(int, sys.argv[1:])
PTRACE_SEIZE, PIDFD_OPEN, PIDFD_GETFD = 0x4206, 434, 438
traced = libc.ptrace(PTRACE_SEIZE, thread, 0, 0) == 0
pidfd = libc.syscall(PIDFD_OPEN, pid, 0)
held = [fd for fd in os.listdir(f"/proc/{pid}/fd") if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket")]
print(traced and all(libc.syscall(PIDFD_GETFD, pidfd, int(fd), 0) >= 0 for fd in held), flush=True)
time.sleep(1000)
"""


@contextmanager
def held(line: Line, pid: int | None) -> Iterator[None]:
    """A process does not end though it is killed, and its sockets stay open: as if a driver held it."""
    threads = sorted(int(task) for task in os.listdir(f"/proc/{pid}/task"))
    command = [sys.executable, "-c", HOLDER, str(pid), str(threads[-1])]
    holder = line.spawn(command, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    if holder.stdout.readline() != "True\n":
        pytest.skip("processes can't be traced here")
    yield
    holder.kill()
    holder.wait()
