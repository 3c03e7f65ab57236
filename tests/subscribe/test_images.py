"""Pictures of results: whole and the right one, or none."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from inspectd.runtime.errors import UserError
from inspectd.runtime.ring import Ring, create
from inspectd.runtime.slots import Shape, SlotHeader
from inspectd.subscribe import Received, Results
from inspectd.subscribe.images import Images
from inspectd.wire.images import MAX_GREETING
from inspectd.wire.results import ImageRef, Result, decode_result
from tests.acquire.sims import needs_simcam
from tests.lines import Line, Triggers, collect, results_of, state_is, stop
from tests.publish.test_images import Served, fill
from tests.wire.test_results import RESULT

TRIGGERED = 'trigger_counter = "triggers"\nspare_slots = 2'
READER = """
import hashlib, json, sys
from inspectd.subscribe import Beat, Received, Results
from inspectd.subscribe.images import Images
with Images(sys.argv[1]) as images, Results(sys.argv[1]) as subscriber:
    next(event for event in subscriber if isinstance(event, Beat))  # it is connected
    print("ready", flush=True)
    for event in subscriber:
        if isinstance(event, Received):
            picture = images.image_of(event)
            told = None if picture is None else [picture.shape, hashlib.sha256(picture.tobytes()).hexdigest()]
            print(json.dumps([event.result.frame_id, told, images.missed]), flush=True)
"""
"""Says of each result its frame id, shape and hash of the picture, and how many were missed."""


def of(slot: int, generation: int, camera: str = "top") -> Result:
    return msgspec.structs.replace(RESULT, camera=camera, image=ImageRef(slot, generation))


def picture_of(line: Line, frame_id: int) -> np.ndarray:
    """Trigger n shows image n - 1."""
    files = sorted(line.images.iterdir())
    picture = cv2.imread(str(files[(frame_id - 1) % len(files)]))
    assert picture is not None
    return picture[:, :, ::-1]


def told_of(line: Line, frame_id: int) -> list[object]:
    picture = picture_of(line, frame_id)
    return [list(picture.shape), hashlib.sha256(picture.tobytes()).hexdigest()]


def next_result(subscriber: Results) -> Received:
    return results_of(collect(subscriber, lambda events: bool(results_of(events[-1:]))))[-1]


def start_reader(line: Line) -> subprocess.Popen[str]:
    reader = line.spawn([sys.executable, "-c", READER, line.endpoint], stdout=subprocess.PIPE)
    assert reader.stdout is not None and reader.stdout.readline() == "ready\n"
    return reader


def heard(reader: subprocess.Popen[str]) -> list[object]:
    assert reader.stdout is not None
    return json.loads(reader.stdout.readline())


# With a ring of our own.


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = create(3, Shape(70, 90, 3), "top")
    yield made
    os.close(made.fd)


@pytest.fixture
def served(tmp_path: Path, ring: Ring) -> Iterator[Served]:
    made = Served(tmp_path / "images", {"side": ring, "top": ring})
    yield made
    made.stop()


@pytest.fixture
def images(served: Served, tmp_path: Path) -> Iterator[Images]:
    with Images(f"ipc://{tmp_path}/results") as made:
        assert made.trouble == ""
        yield made


def test_a_picture_is_a_copy_that_stays(images: Images, ring: Ring) -> None:
    result = of(1, fill(ring, 1, 7))
    picture = images.image_of(result)
    assert picture is not None and picture.shape == (70, 90, 3) and picture.flags.writeable
    fill(ring, 1, 8)
    assert np.all(picture == 7)
    assert images.image_of(result) is None and images.missed == 1


def test_a_picture_that_is_being_replaced_is_gone(images: Images, ring: Ring) -> None:
    generation = fill(ring, 0, 7)
    ring.begin_write(0, 2, 2)
    assert images.image_of(of(0, generation)) is None
    assert images.image_of(of(0, generation + 1)) is None  # no result has an odd one
    assert images.missed == 2


def test_the_shape_is_that_of_the_slot(images: Images, ring: Ring) -> None:
    """A recipe's change may bring pictures of another shape into the same slots."""
    small = Shape(64, 65, 1)
    ring.begin_write(2, 1, 1)
    ring.images[2].reshape(-1)[: small.nbytes] = np.arange(small.nbytes) % 251
    generation = ring.end_write(2)
    ring._write(2, SlotHeader(generation, 1, 1, 1, small))
    picture = images.image_of(of(2, generation))
    assert picture is not None and picture.shape == small
    assert np.array_equal(picture.reshape(-1), np.arange(small.nbytes) % 251)


@pytest.mark.parametrize("shape", [Shape(0, 0, 0), Shape(2**32 - 1, 2**32 - 1, 3), Shape(71, 9000, 3)])
def test_a_header_that_cannot_be_is_a_picture_gone(images: Images, ring: Ring, shape: Shape) -> None:
    generation = fill(ring, 2, 7)
    ring._write(2, SlotHeader(generation, 1, 1, 1, shape))
    assert images.image_of(of(2, generation)) is None


@pytest.mark.parametrize("slot", [-1, 3, 2**40])
def test_no_such_slot_no_such_camera_no_image(images: Images, ring: Ring, slot: int) -> None:
    generation = fill(ring, 0, 7)
    assert images.image_of(of(slot, generation)) is None
    assert images.image_of(of(0, generation, "below")) is None
    assert images.missed == 2
    assert images.image_of(msgspec.structs.replace(RESULT, image=None)) is None
    assert images.missed == 2  # there was none to miss


def test_the_path_itself_may_be_given(served: Served, tmp_path: Path, ring: Ring) -> None:
    with Images(str(tmp_path / "images")) as images:
        assert images.image_of(of(0, fill(ring, 0, 3))) is not None


@pytest.mark.parametrize("where", ["tcp://127.0.0.1:5556", "inproc://x", ""])
def test_an_endpoint_without_pictures_is_one_sentence(where: str) -> None:
    with pytest.raises(
        UserError, match=r"on its machine alone: give the path of its image socket, publish\.images"
    ):
        Images(where)


def test_without_a_daemon_there_is_trouble_and_later_a_picture(tmp_path: Path, ring: Ring) -> None:
    generation = fill(ring, 0, 7)
    with Images(str(tmp_path / "images")) as images:
        assert images.trouble == f"{tmp_path}/images: No such file or directory"
        assert images.image_of(of(0, generation)) is None and images.missed == 1
        served = Served(tmp_path / "images", {"top": ring})
        time.sleep(0.25)
        assert images.image_of(of(0, generation)) is not None and images.trouble == ""
        served.stop()
        assert images.image_of(of(0, generation)) is None and images.missed == 2
        assert not images._rings  # the memory of a dead daemon is let go of


def test_a_refused_reader_says_why(served: Served, tmp_path: Path) -> None:
    others = [Images(str(tmp_path / "images")) for _ in range(32)]
    with Images(str(tmp_path / "images")) as late:
        assert late.trouble.endswith("/images: 32 readers of pictures are connected already")
        others.pop().close()
        time.sleep(0.25)
        late.image_of(of(0, 0))
        assert late.trouble == ""
    for other in others:
        other.close()


VIEW = {"descriptor": 0, "slots": 3, "slot_bytes": 24576, "picture_offset": 4096}


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (b"", "not a greeting"),
        (b"\xff\x00", "not a greeting"),
        (b'{"line": 1}', "not a greeting"),
        (b'{"schema": 2, "line": "a"}', "a greeting of schema 2: this client reads 1"),
        *(
            (json.dumps({"schema": 1, "line": "a", "cameras": {"top": VIEW | changed}}).encode(), said)
            for changed, said in [
                ({"descriptor": 1}, "1 cameras and 1 descriptors"),
                ({"descriptor": -1}, "1 cameras and 1 descriptors"),
                ({"slots": 4}, "a ring that can't be"),
                ({"slots": 0}, "a ring that can't be"),
                ({"slots": -1, "slot_bytes": -24576}, "a ring that can't be"),
                ({"slot_bytes": 4096}, "a ring that can't be"),
                ({"picture_offset": 0}, "a ring that can't be"),
            ]
        ),
    ],
)
def test_a_foreign_greeting_is_trouble_and_leaks_nothing(
    tmp_path: Path, ring: Ring, packet: bytes, said: str
) -> None:
    def greet() -> None:
        client, _ = listener.accept()
        socket.send_fds(client, [packet], [ring.fd])
        client.close()

    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "images"))
        listener.listen(1)
        foreign = threading.Thread(target=greet)
        foreign.start()
        with Images(str(tmp_path / "images")) as images:
            assert said in images.trouble
        foreign.join()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_daemon_that_hangs_holds_a_reader_up_for_a_second_only(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "images"))
        listener.listen(1)
        began_s = time.monotonic()
        with Images(str(tmp_path / "images")) as images:
            assert 0.9 < time.monotonic() - began_s < 3
            assert images.trouble.endswith("timed out")


def test_a_greeting_of_the_most_cameras_fits(tmp_path: Path) -> None:
    rings = {f"{i:02d}" + "x" * 30: create(1, Shape(64, 64, 1), "many") for i in range(64)}
    served = Served(tmp_path / "images", rings)
    try:
        with Images(str(tmp_path / "images")) as images:
            for name, ring in rings.items():
                picture = images.image_of(of(0, fill(ring, 0, int(name[:2])), name))
                assert picture is not None and np.all(picture == int(name[:2]))
        assert len(served.server._greeting) < MAX_GREETING
    finally:
        served.stop()
        for ring in rings.values():
            os.close(ring.fd)


WRITER = """
import sys, time
from inspectd.runtime.ring import Ring, Shape
shape = Shape(*map(int, sys.argv[2:5]))
ring = Ring(int(sys.argv[1]), 2, shape)
number = 0
while True:
    began_s = time.monotonic()
    for slot in range(2):
        number += 1
        ring.begin_write(slot, number, number)
        ring.images[slot][...] = number % 251
        ring.end_write(slot)
    time.sleep(10 * (time.monotonic() - began_s))
"""
"""Fills its two slots, and rests ten times as long, less than a camera would.

Picture `number` is of that level, modulo 251.
"""


def check_torn(tmp_path: Path, seconds: float, shape: Shape) -> tuple[int, int, int]:
    """Pictures that were had, that were gone, and that were torn when nobody looked at the generation.

    For so long, and longer where a busy machine has shown too few of each.
    """
    ring = create(2, shape, "top")
    served = Served(tmp_path / "images", {"top": ring})
    arguments = [str(n) for n in (ring.fd, *shape)]
    writer = subprocess.Popen([sys.executable, "-c", WRITER, *arguments], pass_fds=[ring.fd])
    had = torn = 0
    try:
        first = ring.header(0).generation
        while ring.header(0).generation == first:
            time.sleep(0.01)
        with Images(str(tmp_path / "images")) as images:
            end_s = time.monotonic() + seconds
            while (left_s := end_s - time.monotonic()) > 0 or (min(had, images.missed, torn) < 5 and left_s > -60):
                for slot in range(2):
                    torn += len(np.unique(ring.images[slot].copy())) > 1
                    generation = ring.header(slot).generation
                    picture = images.image_of(of(slot, generation))
                    if picture is not None:
                        had += 1
                        number = generation - first - 1 + slot  # slot 0 holds 1, 3, 5, …; slot 1 holds 2, 4, 6, …
                        assert np.all(picture == number % 251), (generation - first, slot, np.unique(picture))
            missed = images.missed
    finally:
        writer.kill()
        writer.wait()
        served.stop()
        os.close(ring.fd)
    return had, missed, torn


def test_no_picture_is_torn(tmp_path: Path) -> None:
    had, missed, torn = check_torn(tmp_path, 1.0, Shape(200, 300, 3))
    assert min(had, missed, torn) >= 5, (had, missed, torn)


@pytest.mark.proof
@pytest.mark.timeout(300)
@pytest.mark.parametrize("shape", [Shape(64, 64, 1), Shape(480, 640, 3), Shape(1500, 2000, 1)])
def test_no_picture_is_torn_for_long(tmp_path: Path, shape: Shape) -> None:
    had, missed, torn = check_torn(tmp_path, 60.0, shape)
    print(f"{shape}: {had} whole, {missed} gone; without generations {torn} torn", file=sys.stderr)
    assert min(had, missed, torn) >= 5


# With the daemon.


def test_pictures_in_another_process_are_those_of_the_files(line: Line) -> None:
    line.write(TRIGGERED)
    triggers = Triggers(line.folder / "triggers")
    with Results(line.endpoint) as subscriber:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        reader = start_reader(line)
        for n in range(1, 31):
            triggers.fire()
            assert heard(reader) == [n, told_of(line, n), 0]
    assert stop(daemon) == 0, line.log


@needs_simcam
def test_pictures_of_two_simulated_cameras_one_with_a_roi(line: Line) -> None:
    """A slot holds what the recipe has cut out."""
    (line.folder / "roi.toml").write_text(
        (line.folder / "dark/recipe.toml").read_text().replace('model = "."', 'model = "dark"')
        + "\n[camera.cam1]\nroi = [16, 32, 96, 64]\n"
    )
    line.write_sim(*['trigger = "line"\npart_id = "counter"'] * 2)
    line.config.write_text(line.config.read_text().replace("dark/recipe.toml", "roi.toml"))
    with Results(line.endpoint) as subscriber, Images(line.endpoint) as images:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        for camera, (rows, columns) in enumerate([(slice(None), slice(None)), (slice(32, 96), slice(16, 112))]):
            with line.rig(camera) as rig:
                for n in range(1, 11):
                    rig.pulse()
                    received = next_result(subscriber)
                    assert (received.result.camera, received.result.frame_id) == (f"cam{camera}", n)
                    picture = images.image_of(received)
                    assert picture is not None and np.array_equal(picture, picture_of(line, n)[rows, columns])
        assert images.missed == 0
        assert stop(daemon) == 0, line.log
        assert not (line.folder / "images").exists()


@pytest.mark.alone
def test_readers_that_stall_or_come_and_go_cost_the_line_nothing(line: Line) -> None:
    line.write(TRIGGERED)
    triggers = Triggers(line.folder / "triggers")
    silent: list[socket.socket] = []
    with Results(line.endpoint) as subscriber, Images(line.endpoint) as images:
        daemon = line.start()
        collect(subscriber, state_is("ContinuousExecution"))
        reader = start_reader(line)
        triggers.fire()
        assert heard(reader) == [1, told_of(line, 1), 0]
        first = next_result(subscriber)
        reader.send_signal(signal.SIGSTOP)
        for n in range(2, 102):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.connect(str(line.folder / "images"))
            if n % 4:
                sock.close()
            else:
                silent.append(sock)  # never reads
            triggers.fire()
            received = next_result(subscriber)
            assert received.result.frame_id == n and received.result.reason != "deadline"
            assert np.array_equal(images.image_of(received), picture_of(line, n))  # type: ignore[arg-type]
        assert images.missed == 0 and images.image_of(first) is None
        assert len(os.listdir(f"/proc/{daemon.pid}/fd")) < 100
        reader.send_signal(signal.SIGCONT)
        told = [heard(reader) for _ in range(100)]
        assert [frame_id for frame_id, _, _ in told] == list(range(2, 102))
        assert told[0][1] is None and told[-1] == [101, told_of(line, 101), told[-1][2]] and told[-1][2] > 80
        assert all(picture in (None, told_of(line, n)) for n, picture, _ in told)
        assert stop(daemon) == 0, line.log
    for sock in silent:
        sock.close()


def test_a_picture_of_a_killed_daemon_is_never_taken_from_the_next_ones_ring(line: Line) -> None:
    """Its journal is lost as well: slot, part and frame begin anew, and are the same again."""
    line.write(TRIGGERED)
    with Results(line.endpoint) as subscriber, Images(line.endpoint) as images:
        told: list[list[Result]] = []
        for _ in range(2):
            triggers = Triggers(line.folder / "triggers")
            daemon = line.start()
            collect(subscriber, state_is("ContinuousExecution"))
            told.append([])
            for n in range(1, 4):
                triggers.fire()
                result = next_result(subscriber).result
                assert np.array_equal(images.image_of(result), picture_of(line, n))  # type: ignore[arg-type]
                told[-1].append(result)
                if len(told) == 2:  # the new one lies in the old one's place
                    assert images.image_of(told[0][n - 1]) is None
            stop(daemon, signal.SIGKILL)
            shutil.rmtree(line.state_dir)
            if len(told) == 2:
                break
            assert [images.image_of(result) for result in told[0]] == [None, None, None]
            assert images.trouble and (line.folder / "images").exists()
        before, after = ([(r.camera, r.part_id, r.frame_id, r.image.slot) for r in one if r.image] for one in told)
        assert before == after and len(before) == 3
        generations = [{r.image.generation for r in one if r.image} for one in told]
        assert not generations[0] & generations[1]


def test_a_second_line_needs_an_image_socket_of_its_own(line: Line) -> None:
    daemon = line.start()
    with Results(line.endpoint) as subscriber:
        collect(subscriber, state_is("ContinuousExecution"))
    text = line.config.read_text()
    second = line.folder / "second.toml"
    others = f'results = "ipc://{line.folder}/others"\nquery = "ipc://{line.folder}/questions"'
    others += f'\ncontrol = "ipc://{line.folder}/orders"'
    second.write_text(text.replace('"test"', '"second"').replace(f'results = "{line.endpoint}"', others))
    command = [sys.executable, "-m", "inspectd", "run", "-c", str(second)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 69 and "publish.images: " in shown.stderr and "Traceback" not in shown.stderr
    assert "is in use by another daemon; give each line its own" in shown.stderr
    assert stop(daemon) == 0


def test_a_result_decoded_from_the_wire_is_enough(images: Images, ring: Ring) -> None:
    body = msgspec.json.encode(of(0, fill(ring, 0, 9)))
    assert images.image_of(decode_result(body)) is not None
