"""The camera process: the only place where a camera's SDK runs. `python -m inspectd.acquire.process`

Standard input is a SOCK_SEQPACKET socket to the daemon, whose first packet is the `Job` and carries the
ring's memfd. The main thread takes free slots from the socket, the acquisition thread fills them.
"""

import array
import ctypes
import mmap
import os
import signal
import socket
import sys
import threading
import traceback
from collections import deque
from pathlib import Path

import msgspec
from msgspec import structs

from inspectd.acquire import open_camera
from inspectd.acquire.camera import Camera, EndOfImagesError, Exposure, Gap, StalledError, Started
from inspectd.acquire.orders import Orders
from inspectd.acquire.protocol import (
    EXIT_TO_RESTART,
    Connecting,
    Filled,
    Finished,
    FromCamera,
    Idle,
    Job,
    Missing,
    Notice,
    SendTrigger,
    Slot,
    Stop,
    Streaming,
    ToCamera,
    Triggered,
    Trouble,
    Unfilled,
    Vitals,
)
from inspectd.runtime.books import Losses
from inspectd.runtime.clock import now_ns
from inspectd.runtime.errors import CameraError
from inspectd.runtime.frame import Reason
from inspectd.runtime.log import Heedless
from inspectd.runtime.ring import Ring

PR_SET_PDEATHSIG = 1
WAIT_S = 0.25
RETRY_S = (0.2, 0.5, 1.0)
"""Seconds to wait before the camera is connected again, by attempt."""
ATTEMPTS = 10
"""Attempts without a single frame after which this process makes way for a new one."""
GROWTH_BYTES = 256 * 2**20
"""Growth in bytes since the first connection, by leaks of vendors' libraries, that ends this process likewise."""
VITALS_S = 0.5
MAX_PACKET = 65536


class DaemonLink:
    """The camera process's end of the socket to the daemon."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.free: deque[int] = deque()
        self.handed = 0  # exposures reported, whole or not
        self.stop = threading.Event()
        self.orders = Orders(self.send)

    def send(self, message: FromCamera) -> None:
        """Send the daemon a message; blocks only if it has not listened for hundreds of messages."""
        self._sock.send(msgspec.msgpack.encode(message))

    def listen(self) -> None:
        """Take slots, orders, and the request to stop, until the daemon is gone."""
        decoder = msgspec.msgpack.Decoder(ToCamera)
        while packet := self._sock.recv(MAX_PACKET):
            match decoder.decode(packet):
                case Slot(slot):
                    self.free.append(slot)
                case Stop():
                    self.stop.set()
                case SendTrigger() as order:
                    self.orders.put(order)


def main() -> None:
    """Run the camera that the daemon describes until asked to stop, or killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    sys.stdout = sys.stderr = Heedless(2)
    sock = socket.socket(fileno=os.dup(0))
    with Path(os.devnull).open() as nothing:  # what a vendor's library starts must not hold the socket
        os.dup2(nothing.fileno(), 0)
    job, fd = _receive_job(sock)
    if job.config.core is not None:
        os.sched_setaffinity(0, {job.config.core})
    ring = Ring(fd, job.slots, job.shape, job.slot_bytes)
    link = DaemonLink(sock)
    threading.Thread(target=_acquisition_or_die, args=(job, ring, link), daemon=True).start()
    link.listen()
    os._exit(0)  # the daemon is gone or has said goodbye; a vendor's library must not delay the end


def _receive_job(sock: socket.socket) -> tuple[Job, int]:
    packet, ancillary, _, _ = sock.recvmsg(MAX_PACKET, socket.CMSG_LEN(4))
    if not packet:
        sys.exit(0)
    (_, _, data), *_ = ancillary
    return msgspec.json.decode(packet, type=Job), array.array("i", data[:4])[0]


def _acquisition_or_die(job: Job, ring: Ring, link: DaemonLink) -> None:
    """Acquire. A fault of ours or of a vendor's library ends the process: the daemon sees that and restarts it."""
    try:
        _acquisition(job, ring, link)
    except BaseException:
        try:
            traceback.print_exc()
        finally:
            os._exit(1)


def _acquisition(job: Job, ring: Ring, link: DaemonLink) -> None:
    """Open, acquire, and after every trouble try again; harvesters wants to live outside the main thread."""
    losses, attempt, closed_bytes = Losses(), 0, 0

    def tell(triggered: Triggered) -> None:
        nonlocal job
        job = structs.replace(job, sent=triggered.sent)
        link.send(triggered)

    while attempt == 0 or not link.stop.is_set():  # once in any case: it reports what was triggered meanwhile
        camera, handed = None, link.handed
        try:
            camera = open_camera(job, tell, losses, link.orders)
            camera.open()
            job = job.after(_begin(camera.start(), camera, link))
            _stream(camera, ring, link, losses)
            break
        except CameraError as error:
            link.send(Trouble(str(error), isinstance(error, StalledError)))
        except EndOfImagesError:
            break
        finally:
            link.orders.close("the camera is not there, or is being stopped")
            if camera is not None:
                camera.close()
        link.send(Connecting())
        attempt = 1 if link.handed > handed else attempt + 1
        losses.reconnects += 1
        closed_bytes = closed_bytes or _own_bytes()
        if attempt > ATTEMPTS or _own_bytes() > closed_bytes + GROWTH_BYTES:
            os._exit(EXIT_TO_RESTART)
        link.stop.wait(RETRY_S[min(attempt, len(RETRY_S)) - 1])
    link.send(Finished())


def _begin(started: Started, camera: Camera, link: DaemonLink) -> Started:
    link.send(Streaming(camera.device, started))
    for caveat in camera.caveats():
        link.send(Notice(caveat))
    return started


def _own_bytes() -> int:
    """Bytes of resident memory, without that which is shared, as the ring is."""
    _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
    return (int(resident) - int(shared)) * mmap.PAGESIZE


def _stream(camera: Camera, ring: Ring, link: DaemonLink, losses: Losses) -> None:
    """Hand over what comes. A camera that stalls is restarted; if that brings nothing, it is reconnected."""
    is_stopping = is_restarted = False
    reported_ns = 0
    while True:
        if link.stop.is_set() and not is_stopping:
            is_stopping = True
            link.orders.close("the camera is being stopped")
            camera.stop()
        try:
            found = camera.wait(WAIT_S)
        except StalledError as error:
            if is_restarted:
                raise
            is_restarted, losses.restarts = True, losses.restarts + 1
            link.send(Trouble(str(error), is_silent=True))
            _begin(camera.restart(), camera, link)
            continue
        if isinstance(found, Exposure):
            is_restarted = False
            _hand_over(found, camera, ring, link)
        elif isinstance(found, Gap):
            link.send(Missing(found.frame_id, found.detail))
        elif is_stopping:
            link.send(Vitals(losses, camera.clock_view()))
            return
        else:
            link.send(Idle())
        if now_ns() - reported_ns > VITALS_S * 1e9:
            reported_ns = now_ns()
            link.send(Vitals(losses, camera.clock_view()))


def _hand_over(exposure: Exposure, camera: Camera, ring: Ring, link: DaemonLink) -> None:
    """Hand one exposure over in a free slot; without one it is an overrun, at once: the next part is coming."""
    frame_id, trigger_ns, part_id, device_ns, *_, restarted = exposure
    link.handed += 1
    if exposure.reason is not None or not link.free:
        camera.read(None)
        reason, detail = exposure.reason or Reason.OVERRUN, exposure.detail or "no free slot in the ring"
        link.send(Unfilled(frame_id, trigger_ns, reason, detail, part_id, restarted))
        return
    slot = link.free.popleft()
    ring.begin_write(slot, frame_id, trigger_ns)
    reason, trouble = Reason.INCOMPLETE, ""
    try:
        trouble = camera.read(ring.images[slot])
    except CameraError as error:
        reason, trouble = Reason.CAMERA, str(error)
        raise
    finally:
        generation = ring.end_write(slot)
        if trouble:
            link.free.appendleft(slot)
            link.send(Unfilled(frame_id, trigger_ns, reason, trouble, part_id, restarted))
    if not trouble:
        link.send(Filled(slot, generation, frame_id, trigger_ns, now_ns(), part_id, device_ns, restarted))


if __name__ == "__main__":
    main()
