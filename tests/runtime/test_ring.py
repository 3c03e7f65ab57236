"""The ring's memory and the book of its slots."""

import fcntl
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.runtime.ring import PAGE, Ring, create
from inspectd.runtime.slots import Owner, Shape, SlotPool
from tests.makers import examples

SHAPE = Shape(5, 7, 3)


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = create(3, SHAPE, "test")
    yield made
    os.close(made.fd)


@pytest.mark.parametrize("size", [0, PAGE, 100 * PAGE])
def test_nobody_can_change_the_size(ring: Ring, size: int) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(ring.fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(ring.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    ring.images[2][...] = 255  # and all of it is there


def test_a_ring_of_another_size_is_refused(ring: Ring) -> None:
    with pytest.raises(ValueError, match="a ring of 4 slots of Shape"):
        Ring(ring.fd, 4, SHAPE)


def test_pictures_are_page_aligned_and_do_not_overlap(ring: Ring) -> None:
    for slot, image in enumerate(ring.images):
        assert image.shape == SHAPE
        assert image.ctypes.data % PAGE == 0
        image[...] = slot + 1
    assert [set(image.ravel().tolist()) for image in ring.images] == [{1}, {2}, {3}]


def test_generations_begin_at_random_even_and_exact_in_every_json(ring: Ring) -> None:
    (first,) = {ring.header(slot).generation for slot in range(3)}
    other = create(3, SHAPE, "test")
    assert first != other.header(0).generation
    assert 2**51 <= first < 2**52 and first % 2 == 0
    os.close(other.fd)


def test_the_generation_is_odd_while_writing_and_two_more_after_each_filling(ring: Ring) -> None:
    first = ring.header(1).generation
    for filling in range(1, 4):
        ring.begin_write(1, frame_id=40 + filling, trigger_ns=99)
        assert ring.header(1).generation == first + 2 * filling - 1
        ring.images[1][...] = filling
        assert ring.end_write(1) == ring.header(1).generation == first + 2 * filling
        assert ring.header(1)[1:] == (0, 40 + filling, 99, SHAPE)
    assert ring.header(0).generation == ring.header(2).generation == first


def test_a_writing_begun_twice_is_still_one(ring: Ring) -> None:
    first = ring.header(0).generation
    ring.begin_write(0, 1, 1)
    ring.begin_write(0, 2, 2)
    assert ring.header(0).generation == first + 1
    assert ring.end_write(0) == first + 2


def test_the_part_id_changes_nothing_else(ring: Ring) -> None:
    ring.begin_write(2, 2**63, 2**62)
    ring.end_write(2)
    before = ring.header(2)
    ring.set_part_id(2, 2**64 - 1)
    assert ring.header(2) == before._replace(part_id=2**64 - 1)


def test_another_process_maps_the_same_memory(ring: Ring) -> None:
    program = f"""
from inspectd.runtime.ring import Ring, Shape
ring = Ring({ring.fd}, 3, Shape(5, 7, 3))
assert ring.images[0][4, 6, 2] == 17
ring.begin_write(1, 8, 9)
ring.images[1][...] = 33
print(ring.end_write(1))
"""
    ring.images[0][4, 6, 2] = 17
    first = ring.header(1).generation
    output = subprocess.run(
        [sys.executable, "-c", program], pass_fds=[ring.fd], stdout=subprocess.PIPE, check=True
    )
    assert int(output.stdout) == first + 2
    assert np.all(ring.images[1] == 33)
    assert ring.header(1) == (first + 2, 0, 8, 9, SHAPE)


def test_a_slot_given_back_twice_is_an_error() -> None:
    pool = SlotPool(2)
    slot = pool.lend()
    assert slot == 0
    with pytest.raises(ValueError, match="slot 0 given back, but its owner is camera"):
        pool.give_back(slot)
    pool.receive(slot)
    pool.give_back(slot)
    with pytest.raises(ValueError, match="slot 0 given back, but its owner is free"):
        pool.give_back(slot)


@pytest.mark.parametrize("slot", [-1, 0, 1, 2])
def test_a_slot_that_was_not_lent_cannot_be_handed_over(slot: int) -> None:
    pool = SlotPool(2)
    with pytest.raises(ValueError, match="handed over by a camera that does not own it"):
        pool.receive(slot)
    assert [pool.lend(), pool.lend(), pool.lend()] == [0, 1, None]


@examples(100)
@given(
    st.lists(
        st.tuples(st.sampled_from(["lend", "receive", "give_back", "reclaim"]), st.integers(0, 4)), max_size=40
    )
)
def test_each_slot_has_one_owner_and_the_oldest_goes_first(steps: list[tuple[str, int]]) -> None:
    count = 4
    pool, free = SlotPool(count), deque(range(count))
    camera: list[int] = []
    daemon: list[int] = []
    for step, slot in steps:
        match step:
            case "lend":
                lent = pool.lend()
                assert lent == (free.popleft() if free else None)
                if lent is not None:
                    camera.append(lent)
            case "receive" if slot in camera:
                pool.receive(slot)
                camera.remove(slot)
                daemon.append(slot)
            case "give_back" if slot in daemon:
                pool.give_back(slot)
                daemon.remove(slot)
                free.append(slot)
            case "reclaim":
                assert pool.reclaim() == sorted(camera)
                free.extend(sorted(camera))
                camera.clear()
            case "receive":
                with pytest.raises(ValueError, match="does not own"):
                    pool.receive(slot)
            case "give_back" if slot < count:
                with pytest.raises(ValueError, match="given back"):
                    pool.give_back(slot)
        owners = list(pool._owner)
        for owner, slots in ((Owner.FREE, free), (Owner.CAMERA, camera), (Owner.DAEMON, daemon)):
            assert {slot for slot in range(count) if owners[slot] is owner} == set(slots)


def test_the_same_slots_hold_pictures_of_another_shape() -> None:
    large, small = Shape(80, 100, 3), Shape(64, 64, 1)
    ring = create(3, small, "test", large.nbytes)
    try:
        ring.begin_write(1, 5, 6)
        ring.images[1][...] = 7
        generation = ring.end_write(1)
        reshaped = ring.reshaped(large)
        assert [image.shape for image in reshaped.images] == [large] * 3
        assert reshaped.pages is not None and reshaped.pages.ctypes.data == ring.pages.ctypes.data
        assert reshaped.header(1) == ring.header(1) and reshaped.header(1).generation == generation
        for slot, image in enumerate(reshaped.images):
            image[...] = slot
        assert [int(image.max()) for image in ring.images] == [0, 1, 2]
        assert [image.ctypes.data for image in reshaped.images] == [image.ctypes.data for image in ring.images]
        theirs = Ring(ring.fd, 3, large, large.nbytes)  # as the camera process maps it
        assert int(theirs.images[2].min()) == 2
        with pytest.raises(ValueError, match="no room"):
            ring.reshaped(Shape(81, 100, 3))
    finally:
        os.close(ring.fd)
