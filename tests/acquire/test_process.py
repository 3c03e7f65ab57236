"""One exposure into a slot, with the real ring and socket; only the camera is played."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from inspectd.acquire.camera import Exposure, Started
from inspectd.acquire.process import DaemonLink, _hand_over, _stream
from inspectd.acquire.protocol import Declined, Filled, FromCamera, SendTrigger, Unfilled
from inspectd.runtime.books import Losses
from inspectd.runtime.clock import ClockView, now_ns
from inspectd.runtime.errors import CameraError
from inspectd.runtime.frame import Reason
from inspectd.runtime.ring import Ring, create
from inspectd.runtime.slots import Shape


class Toy:
    """A camera whose pictures are of grey level 9, or that says or raises what is wrong."""

    device = "toy"

    def __init__(self, trouble: str = "", lost: bool = False) -> None:
        self.trouble, self.lost, self.dropped = trouble, lost, 0

    def open(self) -> None:
        pass

    def start(self) -> Started:
        return Started(0)

    def restart(self) -> Started:
        return self.start()

    def features(self) -> Iterator[dict[str, Any]]:
        yield from ()

    def clock_view(self) -> ClockView:
        return ClockView()

    def wait(self, timeout_s: float) -> Exposure | None:
        return None

    def read(self, image: np.ndarray | None) -> str:
        if image is None:
            self.dropped += 1
            return ""
        image[: image.shape[0] // 2] = 9
        if self.lost:
            raise CameraError("the camera was lost")
        image[...] = 9
        return self.trouble

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


class Bench:
    """A camera process's link and ring, and the daemon's end of the socket."""

    def __init__(self) -> None:
        self.daemon, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.theirs, self.link = theirs, DaemonLink(theirs)
        self.ring: Ring = create(2, Shape(64, 64, 1), "test")

    def heard(self) -> FromCamera:
        self.daemon.setblocking(False)
        return msgspec.msgpack.decode(self.daemon.recv(65536), type=FromCamera)

    def close(self) -> None:
        self.daemon.close()
        self.theirs.close()
        os.close(self.ring.fd)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_an_exposure_goes_into_the_oldest_free_slot(bench: Bench) -> None:
    bench.link.free.extend([1, 0])
    first = bench.ring.header(1).generation
    _hand_over(Exposure(5, 123), Toy(), bench.ring, bench.link)
    said = bench.heard()
    assert isinstance(said, Filled)
    assert (said.slot, said.generation, said.frame_id, said.trigger_ns) == (1, first + 2, 5, 123)
    assert np.all(bench.ring.images[1] == 9)
    assert list(bench.link.free) == [0]


def test_without_a_free_slot_it_is_an_overrun(bench: Bench) -> None:
    toy = Toy()
    _hand_over(Exposure(5, 123), toy, bench.ring, bench.link)
    assert bench.heard() == Unfilled(5, 123, Reason.OVERRUN, "no free slot in the ring")
    assert toy.dropped == 1


def test_an_unusable_picture_is_incomplete_and_its_slot_stays_free(bench: Bench) -> None:
    bench.link.free.extend([1, 0])
    first = bench.ring.header(1).generation
    _hand_over(Exposure(5, 123), Toy("cut off"), bench.ring, bench.link)
    assert bench.heard() == Unfilled(5, 123, Reason.INCOMPLETE, "cut off")
    assert list(bench.link.free) == [1, 0]
    assert bench.ring.header(1).generation == first + 2


def test_a_camera_lost_while_copying_leaks_no_slot_and_no_trigger(bench: Bench) -> None:
    bench.link.free.extend([1, 0])
    with pytest.raises(CameraError):
        _hand_over(Exposure(5, 123), Toy(lost=True), bench.ring, bench.link)
    assert sorted(bench.link.free) == [0, 1]
    assert bench.ring.header(1).generation % 2 == 0
    said = bench.heard()
    assert isinstance(said, Unfilled)
    assert said.frame_id == 5


def test_a_trigger_for_a_camera_that_is_being_stopped_is_declined(bench: Bench) -> None:
    bench.link.stop.set()
    bench.link.orders.open()
    bench.link.orders.put(SendTrigger(3, "x", now_ns()))
    _stream(Toy(), bench.ring, bench.link, Losses())
    assert bench.heard() == Declined(3, "the camera is being stopped")
