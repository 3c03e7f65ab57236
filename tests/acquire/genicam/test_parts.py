"""Parts and pictures through harvesters: whatever a camera does, no part is judged on another part's picture."""

import time
from collections import Counter
from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from inspectd.acquire.account import Account
from inspectd.acquire.camera import Exposure, Gap, StalledError
from inspectd.acquire.genicam.genicam import Genicam
from inspectd.acquire.protocol import Triggered
from inspectd.acquire.simcam.faults import Effect, Ids
from inspectd.runtime.clock import now_ns
from inspectd.runtime.errors import CameraError
from tests.acquire.sims import HEIGHT, WIDTH, Sim, needs_simcam
from tests.acquire.triggers import Oracle

pytestmark = needs_simcam
Make = Callable[..., Sim]
PROOF = [pytest.mark.proof, pytest.mark.timeout(3600)]
PICTURES = 101
PLAIN = 6
"""So many triggers after something befell the camera go right: nobody could tell two harms at once apart."""
BY_IDS = [
    Effect.DROPPED, Effect.INCOMPLETE, Effect.SHORT, Effect.NO_CHUNKS, Effect.TWICE, Effect.SWAPPED,
    Effect.INCOMPLETE | Effect.WRONG_ID,
]  # fmt: skip
BY_COUNTER = [
    *BY_IDS, Effect.MISSED, Effect.NO_ID, Effect.WRONG_ID, Effect.STRAY_AFTER, Effect.STRAY_BEFORE,
    Effect.STRAY_AFTER | Effect.TWICE,
]  # fmt: skip


BY_BOTH = [*BY_COUNTER, Effect.DROPPED | Effect.STRAY_AFTER]


class Station:
    """A simulated camera with its daemon's account; the test hears and checks what comes of each trigger."""

    def __init__(self, sim: Sim, random: Random) -> None:
        self.sim, self.random, self.oracle = sim, random, Oracle(PICTURES)
        self.account, self.sent = Account(0, 1, 10**9), 0
        self.restarts = 0
        self.shown = 0
        """Number of the picture that was shown last."""
        self.counters: dict[int, int] = {}
        """The camera's own count by software trigger: one that is sent into a cable that goes is not in it."""
        self.happened: Counter[str] = Counter()
        self.camera: Genicam | None = None

    def open(self) -> Genicam:
        camera = self.sim.camera(sent=self.sent)
        camera._tell = self.tell
        try:
            camera.open()
            started = camera.start()
        except CameraError:
            camera.close()
            raise
        self.camera = camera
        self.began(started.counted)
        return camera

    def close(self) -> None:
        if self.camera is not None:
            self.camera.close()
        self.camera = None

    def process_ends(self) -> None:
        self.close()
        self.oracle.take(self.account.process_ended([], self.sent), None)

    def tell(self, said: Triggered) -> None:
        self.sent = said.sent
        self.counters[said.sent] = self.sim.rig.memory.counter + 1
        self.account.sent(said.sent, said.trigger_ns, said.part_ref)

    def began(self, counted: int | None) -> None:
        self.restarts += 1
        self.oracle.take(self.account.streams(counted), None)

    def hear(self, timeout_s: float) -> bool:
        """Take what comes within the time; False if nothing did."""
        try:
            camera = self.camera or self.open()
            found = self.next(camera, timeout_s)
        except CameraError:
            self.close()
            return True
        match found:
            case Exposure():
                self.exposure(camera, found)
            case Gap():
                self.oracle.take(self.account.missing(found.frame_id, found.detail), None)
        return found is not None

    def next(self, camera: Genicam, timeout_s: float) -> Exposure | Gap | None:
        try:
            return camera.wait(timeout_s)
        except StalledError:
            self.began(camera.restart().counted)
            return None

    def exposure(self, camera: Genicam, found: Exposure) -> None:
        image = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
        why = found.detail or camera.read(image)
        seen = found.frame_id, found.trigger_ns, found.part_id
        if found.reason is None and not why:
            may_judge, items = self.account.filled(*seen, found.restarted)
            shown = self.shown = int(image[0, 0, 0]) + 1
            if self.sim.config.part_id == "encoder":
                shown *= 100
            if self.sim.config.trigger == "software":
                shown += found.frame_id - self.counters[found.frame_id]
            self.oracle.take(items, shown if may_judge else None)
        else:
            reason = found.reason or "incomplete"
            self.oracle.take(self.account.unfilled(*seen, reason, why, found.restarted), None)  # type: ignore[arg-type]

    def until_quiet(self) -> None:
        while self.hear(0.01):
            pass


def happen(station: Station) -> None:
    """Something befalls the camera, its process or its counter between two triggers."""
    random, rig = station.random, station.sim.rig
    counts = station.sim.config.part_id == "counter"
    kinds = ("closed", "process ends", "clock", "cable", "power", *(("counter",) * counts))
    kind = random.choice(kinds)
    station.happened[kind] += 1
    match kind:
        case "closed":
            station.close()
        case "process ends":
            station.process_ends()
        case "clock":
            rig.jump_clock(random.choice((-3600.0, -3.0, 3.0, 3600.0)))
        case "cable" | "power":
            rig.unplug(0.02, power=kind == "power")
        case "counter":  # of 16 bits, no more can be seen
            rig.jump_counter(random.choice((3, 40, 5000, -30)))


def trigger(station: Station, events: int, effects: list[Effect], is_software: bool) -> None:
    """So many triggers, alone and in bursts; some have effects, and now and then the acquisition restarts."""
    random, rig = station.random, station.sim.rig
    done, plain, effect = 0, 0, Effect(0)
    while done < events:
        burst = min(random.choice((1, 1, 2, 4)), events - done)
        for n in range(1, burst + 1):
            has_effect = plain == 0 and random.random() < 0.3
            before, effect = effect, random.choice(effects) if has_effect else Effect(0)
            plain = max(0, plain - 1)
            is_shown = n == 1 and rig.memory.counter % PICTURES == station.shown % PICTURES
            if Effect.STRAY_BEFORE in effect and (before or not (is_shown or is_software)):
                effect = Effect(0)  # it would carry the number of a trigger that has shown no whole frame
            if Effect.DROPPED | Effect.STRAY_AFTER in effect and (before or not is_shown):
                effect = Effect(0)  # among others that are missing one frame too many would not show
            rig.plan(rig.memory.counter + n, effect)
        if is_software:
            before = station.sent
            until_ns = now_ns() + 10**10
            while station.sent < before + burst and now_ns() < until_ns:
                station.hear(0.05)
        else:
            rig.pulse(burst)
            station.until_quiet()
        done += burst
        if random.random() < 0.08:
            happen(station)
            plain = PLAIN
    for _ in range(3):  # what was swapped, or is missed, at the end
        if not is_software:
            rig.pulse()
        station.until_quiet() if not is_software else station.hear(0.6)


CAMERAS = {
    "counter": (BY_BOTH, {}),
    "counter, oldest buffer first": (BY_BOTH, {"num_buffers": 3}),
    "counter of 16 bits, no ids": (BY_COUNTER, {}),
    "frame ids of 16 bits": (BY_IDS, {"part_id": "frame_id"}),
    "encoder": (BY_IDS, {"part_id": "encoder", "num_buffers": 3}),
    "software triggers": (
        BY_BOTH,
        {"trigger": "software", "part_id": "frame_id", "acquisition_frame_rate_hz": 500.0},
    ),
}


@pytest.mark.parametrize("name", CAMERAS)
@pytest.mark.parametrize("events", [120, pytest.param(2500, marks=PROOF)])
def test_no_part_is_judged_on_another_ones_picture(make: Make, name: str, events: int) -> None:
    effects, config = CAMERAS[name]
    sim = make(images=PICTURES, **config)
    sim.rig.faults.wrong_id = 2**64 - 1
    if "oldest" in name or name == "encoder":
        sim.rig.faults.oldest_first = 1
    if name == "counter of 16 bits, no ids":
        sim.rig.faults.narrow_counter(16, is_signed=True)
        sim.rig.faults.id_kind = Ids.ZERO
        sim.rig.memory.counter = 2**15 - 40
    if name == "frame ids of 16 bits":
        sim.rig.faults.number_frames(first=2**16 - 40, bits=16, skips_zero=True)
    station = Station(sim, Random(events))
    began_s = time.monotonic()
    try:
        station.open()
        trigger(station, events, effects, "trigger" in config)
    finally:
        station.close()
    one = station.oracle
    assert one.judged > 0.3 * events and one.results <= 1.3 * events
    took_s = time.monotonic() - began_s
    print(f"{name}: {one.parts} parts, {one.judged} judged, {station.restarts} starts, {took_s:.0f} s")
    print(", ".join(f"{kind} {times}" for kind, times in station.happened.items()))
