"""The image socket against readers that know nothing but the protocol: socket, struct, mmap."""

import array
import ctypes
import json
import mmap
import os
import re
import select
import shutil
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inspectd.publish.images import MAX_READERS, MAX_UNREAD, ImageServer
from inspectd.runtime import slots
from inspectd.runtime.errors import UnavailableError
from inspectd.runtime.ring import PAGE, Ring, create
from inspectd.runtime.slots import Shape

ROOT = Path(__file__).parents[2]
TOP, SIDE = Shape(70, 90, 3), Shape(64, 64, 1)


@pytest.fixture
def rings() -> Iterator[dict[str, Ring]]:
    made = {"top": create(3, TOP, "top"), "side": create(5, SIDE, "side")}
    yield made
    for ring in made.values():
        os.close(ring.fd)


class Served:
    """A server, and the thread that serves it whenever someone connects, as the publish thread does."""

    def __init__(self, path: Path, rings: dict[str, Ring]) -> None:
        self.server, self._end = ImageServer(path, "line1", rings), os.eventfd(0)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        poll = select.poll()
        for fd in [*self.server.sockets(), self._end]:
            poll.register(fd, select.POLLIN)
        while self._end not in [fd for fd, _ in poll.poll()]:
            while self.server.serve():
                pass
            assert not self.server.busy

    def stop(self) -> None:
        os.eventfd_write(self._end, 1)
        self._thread.join(10)
        self.server.close()
        os.close(self._end)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def served(path: Path, rings: dict[str, Ring]) -> Iterator[Served]:
    made = Served(path, rings)
    yield made
    made.stop()


def connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(str(path))  # with a time-out it would not wait where many are waiting already
    sock.settimeout(10)
    return sock


def greeting(sock: socket.socket) -> tuple[dict, list[int]]:
    packet, ancillary, flags, _ = sock.recvmsg(65536, socket.CMSG_SPACE(64 * 4))
    assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
    return json.loads(packet), [fd for _, _, data in ancillary for fd in array.array("i", data)]


def fill(ring: Ring, slot: int, value: int, frame_id: int = 1) -> int:
    ring.begin_write(slot, frame_id, 99)
    ring.images[slot][...] = value
    return ring.end_write(slot)


def test_a_reader_finds_every_picture_by_what_the_protocol_says(
    served: Served, path: Path, rings: dict[str, Ring]
) -> None:
    """Only socket, struct and mmap: what a C program would do."""
    rng = np.random.default_rng(1)
    for ring in rings.values():
        for slot, image in enumerate(ring.images):
            ring.begin_write(slot, 40 + slot, 99)
            image[...] = rng.integers(0, 256, ring.shape, np.uint8)
            ring.end_write(slot)
            ring.set_part_id(slot, 70 + slot)
    with connect(path) as sock:
        said, fds = greeting(sock)
        assert (said["schema"], said["line"], said["error"], list(said["cameras"])) == (
            1, "line1", "", ["top", "side"],
        )  # fmt: skip
        for name, ring in rings.items():
            view = said["cameras"][name]
            assert view["slots"] == ring.count
            fd = fds[view["descriptor"]]
            memory = mmap.mmap(fd, view["slots"] * view["slot_bytes"], prot=mmap.PROT_READ)
            for slot in range(view["slots"]):
                start = slot * view["slot_bytes"]
                magic, generation, part_id, frame_id, trigger_ns, height, width, channels = struct.unpack_from(
                    "<8sQQQQIII", memory, start
                )
                assert (magic, part_id, frame_id, trigger_ns) == (b"INSLOT1\0", 70 + slot, 40 + slot, 99)
                assert generation == ring.header(slot).generation
                begin = start + view["picture_offset"]
                picture = memory[begin : begin + height * width * channels]
                assert picture == ring.images[slot].tobytes()
            memory.close()
        for fd in fds:
            os.close(fd)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_c_function_of_the_protocol_document(
    served: Served, path: Path, rings: dict[str, Ring], tmp_path: Path
) -> None:
    (code,) = re.findall(r"```c\n(.*?)```", (ROOT / "docs/protocol.md").read_text(), re.DOTALL)
    (tmp_path / "reader.c").write_text(code)
    command = ["cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", "reader.so"]
    subprocess.run([*command, "reader.c"], cwd=tmp_path, check=True)
    copy_picture = ctypes.CDLL(str(tmp_path / "reader.so")).copy_picture
    copy_picture.restype = ctypes.c_size_t
    ring, shape = rings["top"], (ctypes.c_uint32 * 3)()
    with connect(path) as sock:
        said, fds = greeting(sock)
    view = said["cameras"]["top"]
    memory = mmap.mmap(fds[view["descriptor"]], 0, prot=mmap.PROT_READ)
    address = np.frombuffer(memory, np.uint8).ctypes.data
    to = np.zeros(view["slot_bytes"], np.uint8)

    def copy(slot: int, generation: int) -> int:
        sizes = (ctypes.c_size_t(view[key]) for key in ("slot_bytes", "picture_offset"))
        of = ctypes.c_size_t(slot), ctypes.c_uint64(generation)
        return int(copy_picture(ctypes.c_void_p(address), *sizes, *of, ctypes.c_void_p(to.ctypes.data), shape))

    generation = fill(ring, 1, 0)
    ring.images[1][...] = np.arange(TOP.nbytes).reshape(TOP) % 251
    assert copy(1, generation) == TOP.nbytes and tuple(shape) == TOP
    assert np.array_equal(to[: TOP.nbytes].reshape(TOP), ring.images[1])
    assert copy(1, generation - 2) == 0
    ring.begin_write(1, 2, 2)
    assert copy(1, generation) == 0
    memory.close()
    for fd in fds:
        os.close(fd)


def test_the_contract_is_the_rings_own_layout() -> None:
    packed = slots.SLOT_HEADER.pack(b"", 123456789, 0, 0, 0, 0, 0, 0)
    assert slots.GENERATION.unpack_from(packed, slots.GENERATION_OFFSET) == (123456789,)
    assert slots.SLOT_HEADER.size <= PAGE


def test_nothing_can_be_written_through_what_a_reader_gets(
    served: Served, path: Path, rings: dict[str, Ring]
) -> None:
    fill(rings["top"], 0, 7)
    with connect(path) as sock:
        _, fds = greeting(sock)
    fd, libc = fds[0], ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
    with pytest.raises(PermissionError):
        mmap.mmap(fd, PAGE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(fd, b"x", 0)
    with pytest.raises(OSError):
        os.ftruncate(fd, 0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.posix_fallocate(fd, 0, PAGE)
    assert libc.fallocate(fd, 3, 0, PAGE) == -1  # punch a hole
    memory = mmap.mmap(fd, 2 * PAGE, prot=mmap.PROT_READ)
    with pytest.raises(PermissionError):
        memory.madvise(mmap.MADV_REMOVE)
    address = ctypes.c_void_p(np.frombuffer(memory, np.uint8).ctypes.data)
    assert libc.mprotect(address, ctypes.c_size_t(PAGE), mmap.PROT_READ | mmap.PROT_WRITE) == -1
    assert np.all(rings["top"].images[0] == 7)
    memory.close()
    for one in fds:
        os.close(one)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("same_group", [False, True])
def test_another_user_can_open_no_descriptor_anew_for_writing(
    served: Served, path: Path, rings: dict[str, Ring], same_group: bool
) -> None:
    with connect(path) as sock:
        _, fds = greeting(sock)
    program = f"""
import os, sys
os.setgroups([])
os.setgid({os.getegid() if same_group else 65534})
os.setuid(65534)
assert os.pread({fds[0]}, 7, 0) == b"INSLOT1"
try:
    os.open("/proc/self/fd/{fds[0]}", os.O_RDWR)
except PermissionError:
    print("refused")
try:
    os.fchmod({fds[0]}, 0o777)
except PermissionError:
    print("refused")
"""
    shown = subprocess.run([sys.executable, "-c", program], pass_fds=fds, capture_output=True, text=True)
    assert (shown.stdout, shown.stderr) == ("refused\nrefused\n", "")
    for fd in fds:
        os.close(fd)


def test_the_daemon_and_its_camera_write_on(served: Served, path: Path, rings: dict[str, Ring]) -> None:
    with connect(path) as sock:
        _, fds = greeting(sock)
        program = f"""
from inspectd.runtime.ring import Ring, Shape
ring = Ring({rings["top"].fd}, 3, Shape{tuple(TOP)})
ring.images[1][...] = 33
"""
        subprocess.run([sys.executable, "-c", program], pass_fds=[rings["top"].fd], check=True)
        memory = mmap.mmap(fds[0], 0, prot=mmap.PROT_READ)
        assert memory[len(memory) // 3 + PAGE] == 33
        memory.close()
        for fd in fds:
            os.close(fd)


def test_the_group_may_connect_and_nobody_else(served: Served, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_live_socket_is_refused_and_a_dead_ones_file_replaced(
    served: Served, path: Path, rings: dict[str, Ring]
) -> None:
    with pytest.raises(UnavailableError) as caught:
        ImageServer(path, "line2", rings)
    assert str(caught.value) == f"publish.images: {path} is in use by another daemon; give each line its own"
    connect(path).close()
    other = path.with_name("other")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(str(other))
    second = Served(other, rings)
    with connect(other) as sock:
        _, fds = greeting(sock)
    second.stop()
    assert not other.exists()
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("name", ["no/such/folder/images", "x" * 200, "file", "folder"])
def test_a_path_that_cannot_be_bound_is_one_sentence(path: Path, rings: dict[str, Ring], name: str) -> None:
    path.with_name("file").write_text("someone's own")
    path.with_name("folder").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UnavailableError, match=r"^publish\.images: .* can't be bound: [^\n]*$"):
        ImageServer(path.parent / name, "line1", rings)
    assert path.with_name("file").read_text() == "someone's own"
    assert len(os.listdir("/proc/self/fd")) <= before


def test_the_end_of_the_daemon_is_the_end_of_the_connection(path: Path, rings: dict[str, Ring]) -> None:
    served = Served(path, rings)
    with connect(path) as sock:
        _, fds = greeting(sock)
        served.stop()
        assert sock.recv(1) == b""
    for fd in fds:
        os.close(fd)


def test_a_hundred_readers_come_and_go(served: Served, path: Path, rings: dict[str, Ring]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        with connect(path) as sock:
            said, fds = greeting(sock)
            assert said["cameras"] and len(fds) == 2
            for fd in fds:
                os.close(fd)
    for _ in range(100):
        connect(path).close()  # without a look
    with connect(path) as sock:
        for fd in greeting(sock)[1]:
            os.close(fd)
        assert len(served.server._readers) <= 2
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_too_many_readers_are_told_so_and_a_place_that_is_free_again_is_given(
    served: Served, path: Path, rings: dict[str, Ring]
) -> None:
    readers = [connect(path) for _ in range(MAX_READERS)]
    for reader in readers:
        for fd in greeting(reader)[1]:
            os.close(fd)
    with connect(path) as sock:
        said, fds = greeting(sock)
        assert (said["error"], said["cameras"], fds) == ("32 readers of pictures are connected already", {}, [])
        assert sock.recv(1) == b""
    readers.pop().close()
    with connect(path) as sock:
        said, fds = greeting(sock)
        assert len(fds) == 2
    for fd in fds:
        os.close(fd)
    for reader in readers:
        reader.close()


def test_a_reader_that_reads_nothing_keeps_its_place_until_it_closes(
    served: Served, path: Path, rings: dict[str, Ring]
) -> None:
    """Shut down or not: what it has not received is on its way, and the kernel allows so many descriptors."""
    readers = [connect(path) for _ in range(MAX_READERS)]
    for reader in readers:
        assert select.select([reader], [], [], 10)[0]  # it is greeted
        reader.shutdown(socket.SHUT_RDWR)
    with connect(path) as sock:
        assert greeting(sock)[0]["error"]
    for reader in readers:
        reader.close()
    with connect(path) as sock:
        said, fds = greeting(sock)
    assert not said["error"]
    for fd in fds:
        os.close(fd)


def test_a_reader_that_talks_is_not_listened_to(served: Served, path: Path) -> None:
    with connect(path) as sock:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                sock.send(os.urandom(1000))
        with connect(path) as other:
            for fd in greeting(other)[1]:
                os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_readers_that_read_nothing_do_not_keep_a_camera_from_its_ring(path: Path) -> None:
    """As an ordinary user of 64 cameras with the usual limit of descriptors."""
    program = f"""
import os, resource, socket, sys
from pathlib import Path
from inspectd.publish.images import ImageServer
from inspectd.runtime.ring import Shape, create
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
create(1, Shape(64, 64, 1), "first")  # all that this loads is loaded while it can be
os.chdir({str(path.parent)!r})
os.setgid(65534), os.setuid(65534)
server = ImageServer(Path("images"), "line1", {{f"c{{i}}": create(1, Shape(64, 64, 1), "c") for i in range(64)}})
readers = []
for _ in range(40):
    readers.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    readers[-1].connect("images")
    while server.serve():
        pass
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
socket.send_fds(ours, [b"job"], [0])
print(len(server._readers))
"""
    path.parent.chmod(0o777)
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (shown.stdout.splitlines()[-1:], shown.returncode) == ([str(MAX_UNREAD // 64)], 0), shown.stderr


def test_a_socket_that_was_deleted_is_bound_again_and_readers_stay(
    served: Served, path: Path, rings: dict[str, Ring]
) -> None:
    with connect(path) as old:
        for fd in greeting(old)[1]:
            os.close(fd)
        for _ in range(3):
            path.unlink()
            assert served.server.look() == ""
            with connect(path) as new:
                said, fds = greeting(new)
                assert said["cameras"] and stat.S_IMODE(path.stat().st_mode) == 0o660
            for fd in fds:
                os.close(fd)
        old.setblocking(False)
        with pytest.raises(BlockingIOError):
            old.recv(1)


def test_what_lies_in_its_place_is_told_and_not_deleted_at_the_end(path: Path, rings: dict[str, Ring]) -> None:
    served = Served(path, rings)
    path.unlink()
    path.write_text("someone's own")
    trouble = f"publish.images: {path}: its file was deleted, and something else lies there now: remove that"
    assert served.server.look() == trouble
    served.stop()
    assert path.read_text() == "someone's own"


def test_without_a_descriptor_left_it_neither_spins_nor_ends_and_takes_readers_later(
    path: Path, rings: dict[str, Ring]
) -> None:
    program = f"""
import json, os, resource, select, socket, sys, time
from pathlib import Path
from inspectd.publish import images
from inspectd.publish.images import ImageServer
from inspectd.runtime.ring import Shape, create
server = ImageServer(Path({str(path)!r}), "line1", {{"top": create(1, Shape(64, 64, 1), "top")}})
poll = select.poll()
poll.register(server.sockets()[0], select.POLLIN)
reader = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
reader.connect({str(path)!r})
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
wakes = tries = 0
until_s = time.monotonic() + 2.5 * images.RETRY_NS / 1e9
while time.monotonic() < until_s:  # as the publish loop does
    ready = poll.poll(20)
    wakes += bool(ready)
    if ready or server.busy:
        tries += 1
        assert not server.serve()
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
while not server.counts["images_greeted"]:
    if poll.poll(20) or server.busy:
        server.serve()
print(json.dumps([wakes, tries, len(json.loads(reader.recv(65536))["cameras"])]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    wakes, tries, cameras = json.loads(done.stdout.splitlines()[-1])
    assert wakes == 1 and 2 <= tries <= 4 and cameras == 1
    assert done.stdout.count("readers of pictures can't be taken now") == 1
