"""Parts and pictures through harvesters: whatever a camera does, no part is judged on another part's picture."""

import time
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
BY_IDS = [
    Effect.DROPPED, Effect.INCOMPLETE, Effect.SHORT, Effect.NO_CHUNKS, Effect.TWICE, Effect.SWAPPED,
    Effect.INCOMPLETE | Effect.WRONG_ID,
]  # fmt: skip
BY_COUNTER = [
    *BY_IDS, Effect.MISSED, Effect.NO_ID, Effect.WRONG_ID, Effect.STRAY_AFTER, Effect.STRAY_BEFORE,
    Effect.STRAY_AFTER | Effect.TWICE,
]  # fmt: skip


class Station:
    """A simulated camera with its daemon's account; the test hears and checks what comes of each trigger."""

    def __init__(self, sim: Sim, random: Random) -> None:
        self.sim, self.random, self.oracle = sim, random, Oracle(PICTURES)
        self.account, self.sent = Account(0, 1, 10**9), 0
        self.restarts = 0
        self.camera: Genicam | None = None

    def open(self) -> Genicam:
        self.camera = self.sim.camera(sent=self.sent)
        self.camera._tell = self.tell
        self.camera.open()
        self.began(self.camera.start().counted)
        return self.camera

    def tell(self, said: Triggered) -> None:
        self.sent = said.sent
        self.account.sent(said.sent, said.trigger_ns, said.part_ref)

    def began(self, counted: int | None) -> None:
        self.restarts += 1
        self.oracle.take(self.account.streams(counted), None)

    def hear(self, timeout_s: float) -> bool:
        """Take what comes within the time; False if nothing did."""
        camera = self.camera or self.open()
        try:
            found = camera.wait(timeout_s)
        except StalledError:
            self.began(camera.restart().counted)
            return True
        except CameraError:
            camera.close()
            self.camera = None
            return True
        match found:
            case Exposure():
                self.exposure(camera, found)
            case Gap():
                self.oracle.take(self.account.missing(found.frame_id, found.detail), None)
        return found is not None

    def exposure(self, camera: Genicam, found: Exposure) -> None:
        image = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
        why = found.detail or camera.read(image)
        seen = found.frame_id, found.trigger_ns, found.part_id
        if found.reason is None and not why:
            may_judge, items = self.account.filled(*seen, found.restarted)
            shown = int(image[0, 0, 0]) + 1
            if self.sim.config.part_id == "encoder":
                shown *= 100
            self.oracle.take(items, shown if may_judge else None)
        else:
            reason = found.reason or "incomplete"
            self.oracle.take(self.account.unfilled(*seen, reason, why, found.restarted), None)  # type: ignore[arg-type]

    def until_quiet(self) -> None:
        while self.hear(0.01):
            pass


def trigger(station: Station, events: int, effects: list[Effect], is_software: bool) -> None:
    """So many triggers, alone and in bursts; some have effects, and now and then the acquisition restarts."""
    random, rig = station.random, station.sim.rig
    done, effect = 0, Effect(0)
    while done < events:
        burst = min(random.choice((1, 1, 2, 4)), events - done)
        for n in range(1, burst + 1):
            before, effect = effect, random.choice(effects) if random.random() < 0.3 else Effect(0)
            if before and Effect.STRAY_BEFORE in effect:
                effect = Effect(0)  # it would carry the number of a trigger that has shown no whole frame
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
        if random.random() < 0.01 and station.camera is not None:
            station.camera.close()
            station.camera = None
    for _ in range(3):  # what was swapped, or is missed, at the end
        if not is_software:
            rig.pulse()
        station.until_quiet() if not is_software else station.hear(0.6)


CAMERAS = {
    "counter": (BY_COUNTER, {}),
    "counter, oldest buffer first": (BY_COUNTER, {"num_buffers": 3}),
    "counter of 16 bits, no ids": (BY_COUNTER, {}),
    "frame ids of 16 bits": (BY_IDS, {"part_id": "frame_id"}),
    "encoder": (BY_IDS, {"part_id": "encoder", "num_buffers": 3}),
    "software triggers": (
        BY_COUNTER,
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
        if station.camera is not None:
            station.camera.close()
    one = station.oracle
    assert one.judged > 0.3 * events and one.results <= 1.3 * events
    took_s = time.monotonic() - began_s
    print(f"{name}: {one.parts} parts, {one.judged} judged, {station.restarts} starts, {took_s:.0f} s")
