"""The camera process: the only place where a camera's SDK runs. `python -m inspectd.acquire.process`

Standard input is a SOCK_SEQPACKET socket to the daemon, whose first packet is the `Job` and carries the
ring's memfd. The main thread takes free slots from the socket, the acquisition thread fills them.
"""

import array
import ctypes
import os
import signal
import socket
import sys
import threading
import traceback
from collections import deque

import msgspec

from inspectd.acquire import open_camera
from inspectd.acquire.camera import (
    Camera,
    EndOfImagesError,
    Exposure,
    Filled,
    Finished,
    FromCamera,
    Idle,
    Job,
    Missed,
    Slot,
    Stop,
    Streaming,
    ToCamera,
    Trouble,
)
from inspectd.clock import now_ns
from inspectd.errors import CameraError
from inspectd.results import Reason
from inspectd.ring import Ring, Shape

PR_SET_PDEATHSIG = 1
WAIT_S = 0.25
RETRY_S = (0.2, 0.5, 1.0, 2.0)
MAX_PACKET = 65536


class Link:
    """The camera process's end of the socket to the daemon."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.free: deque[int] = deque()
        self.stop = threading.Event()

    def send(self, message: FromCamera) -> None:
        """Tell the daemon; blocks only if it has not listened for hundreds of messages."""
        self._sock.send(msgspec.msgpack.encode(message))

    def listen(self) -> None:
        """Take slots and the order to stop until the daemon is gone."""
        decoder = msgspec.msgpack.Decoder(ToCamera)
        while packet := self._sock.recv(MAX_PACKET):
            match decoder.decode(packet):
                case Slot(slot):
                    self.free.append(slot)
                case Stop():
                    self.stop.set()


def main() -> None:
    """Run the camera that the daemon describes until told to stop, or killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    sock = socket.socket(fileno=os.dup(0))
    job, fd = _receive_job(sock)
    _, _, width, height = job.rect
    ring = Ring(fd, job.slots, Shape(height, width, job.channels))
    link = Link(sock)
    threading.Thread(target=_acquisition_or_die, args=(job, ring, link), daemon=True).start()
    link.listen()
    os._exit(0)  # the daemon is gone or has said goodbye; a vendor's library must not delay the end


def _receive_job(sock: socket.socket) -> tuple[Job, int]:
    packet, ancillary, _, _ = sock.recvmsg(MAX_PACKET, socket.CMSG_LEN(4))
    if not packet:
        sys.exit(0)
    (_, _, data), *_ = ancillary
    return msgspec.json.decode(packet, type=Job), array.array("i", data[:4])[0]


def _acquisition_or_die(job: Job, ring: Ring, link: Link) -> None:
    """A fault of ours or of a vendor's library ends the process: the daemon sees it at once and restarts it."""
    try:
        _acquisition(job, ring, link)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _acquisition(job: Job, ring: Ring, link: Link) -> None:
    """Open, acquire, and after every trouble try again; harvesters wants to live outside the main thread."""
    attempt = 0
    while attempt == 0 or not link.stop.is_set():  # once in any case: it tells what was triggered meanwhile
        camera = open_camera(job)
        try:
            camera.open()
            started = camera.start()
            job = job.after(started)  # it counts on through every trouble
            link.send(Streaming(camera.device, started))
            attempt = 0
            _stream(camera, ring, link)
            break
        except CameraError as error:
            link.send(Trouble(str(error)))
        except EndOfImagesError:
            break
        finally:
            camera.close()
        link.stop.wait(RETRY_S[min(attempt, len(RETRY_S) - 1)])
        attempt += 1
    link.send(Finished())


def _stream(camera: Camera, ring: Ring, link: Link) -> None:
    stopping = False
    while True:
        if link.stop.is_set() and not stopping:
            stopping = True
            camera.stop()
        exposure = camera.wait(WAIT_S)
        if exposure is not None:
            _hand_over(exposure, camera, ring, link)
        elif stopping:
            return
        else:
            link.send(Idle())


def _hand_over(exposure: Exposure, camera: Camera, ring: Ring, link: Link) -> None:
    """One exposure into a free slot; without one it is an overrun, at once: the next part is coming."""
    frame_id, trigger_ns = exposure
    if not link.free:
        camera.read(None)
        link.send(Missed(frame_id, trigger_ns, Reason.OVERRUN, "no free slot in the ring"))
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
            link.send(Missed(frame_id, trigger_ns, reason, trouble))
    if not trouble:
        link.send(Filled(slot, generation, frame_id, trigger_ns, now_ns()))


if __name__ == "__main__":
    main()
