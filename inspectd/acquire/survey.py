"""Looking at cameras from outside the daemon: which are there, what features they have, what they see.

Each question is asked in a process of its own, `python -m inspectd.acquire.survey`: a vendor's producer may
crash or hang, and then takes only that process with it.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from inspectd.acquire import open_camera
from inspectd.acquire.camera import Exposure
from inspectd.acquire.chatter import Chatter
from inspectd.acquire.folder import list_images, missed_of
from inspectd.acquire.orders import Orders
from inspectd.acquire.protocol import OPENING_S, Job, SendTrigger
from inspectd.acquire.simcam import world
from inspectd.runtime.books import Losses
from inspectd.runtime.channels import conversion
from inspectd.runtime.clock import now_ns
from inspectd.runtime.errors import CameraError
from inspectd.runtime.image_files import read_image, shown_name, write_png
from inspectd.runtime.log import Heedless
from inspectd.settings.camera import FolderCamera, SimCamera

KILLED_S = 5.0
"""Seconds in which a killed process mostly ends."""
PICTURE_S = 10.0
"""Longest wait in seconds for a picture that is not triggered."""


class Listing(msgspec.Struct, frozen=True, tag=True):
    """Question: which devices do these producers list?"""

    producers: list[str]
    sim_folder: str = ""


class Opening(msgspec.Struct, frozen=True, tag=True):
    """Question: can the camera be opened, and its features be set? With `features`: which has it? With `picture`:
    what does it see (written there as PNG)?
    """

    job: Job
    features: bool = False
    picture: str = ""


Question = Listing | Opening
Rows = list[dict[str, Any]]


class Findings(msgspec.Struct, frozen=True):
    """Answer to a question: rows for people and programs, or the sentence that says why there are none."""

    rows: Rows
    trouble: str = ""


def ask(question: Question) -> Rows:
    """Ask a question in a process of its own; raises CameraError."""
    command = [sys.executable, "-P", "-m", "inspectd.acquire.survey"]
    try:
        chatter = Chatter()
    except OSError as error:
        raise CameraError(f"the camera can't be looked at: {error.strerror}") from None
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=chatter.child_fd, process_group=0
        )
        said, _ = process.communicate(msgspec.json.encode(question), OPENING_S)
    except OSError as error:
        raise CameraError(f"the camera can't be looked at: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        with suppress(OSError, subprocess.TimeoutExpired):  # a driver may hold it
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(KILLED_S)
        raise CameraError(f"the GenTL producer did not answer within {OPENING_S:.0f} s") from None
    finally:
        chatter.close()
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        raise CameraError(
            f"the GenTL producer crashed ({name}); a crash in its library takes only its own process"
        )
    try:
        answer = msgspec.json.decode(said, type=Findings)
    except msgspec.DecodeError:
        raise CameraError(
            f"the process that looked at the camera ended with exit code {process.returncode}"
        ) from None
    if answer.trouble:
        raise CameraError(answer.trouble)
    return answer.rows


def _answer(question: Question) -> Rows:
    match question:
        case Listing(producers, sim_folder):
            from inspectd.acquire.genicam.devices import list_devices

            os.environ[world.FOLDER_VARIABLE] = sim_folder
            return [device._asdict() for device in list_devices([Path(path) for path in producers])]
        case Opening(job):
            return _look(question, job)


def _look(question: Opening, job: Job) -> Rows:
    orders = Orders()
    camera = open_camera(job, lambda _: None, Losses(), orders)
    try:
        shown = list(_check_folder(job.config, job)) if isinstance(job.config, FolderCamera | SimCamera) else []
        camera.open()
        if question.features:
            return list(camera.features())
        if question.picture:
            camera.start()
            orders.put(SendTrigger(1, "", now_ns()))  # for a camera that waits for one
            _snapshot(question, job, camera)
        return [{"device": camera.device, "caveats": [*shown, *camera.caveats()]}]
    finally:
        camera.close()


def _check_folder(config: FolderCamera | SimCamera, job: Job) -> Iterator[str]:
    """Look at a folder's first picture: raises CameraError if it has another size, says how it is converted."""
    folder = Path(job.base) / config.folder
    first = list_images(folder)[0]
    if isinstance(config, SimCamera) and (told := missed_of(folder)):
        yield f"left out of the folder {config.folder}: {told}"
    try:
        height, width, channels = read_image(first).shape
    except ValueError:
        return  # one that can't be read would be an UNKNOWN result, and says nothing of the others
    if (height, width) != (config.height, config.width):
        raise CameraError(f"{shown_name(first)} is {width}x{height}, {config.width}x{config.height} is configured")
    if into := conversion(channels, job.channels):
        yield f"{shown_name(first)} is {'grey' if channels == 1 else 'RGB'}, and made {into}"


def _snapshot(question: Opening, job: Job, camera: Any) -> None:
    until_ns = now_ns() + int(PICTURE_S * 1e9)
    image = np.zeros((job.rect[3], job.rect[2], job.channels), np.uint8)
    trouble = "no picture came; is the camera triggered?"
    while now_ns() < until_ns:
        if isinstance(camera.wait(0.25), Exposure) and not (trouble := camera.read(image)):
            write_png(Path(question.picture), image)
            return
    raise CameraError(f"{trouble} ({PICTURE_S:.0f} s)")


def main() -> None:
    """Answer the question on the standard input. What SDKs print must not get between the answer's lines."""
    out = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr = Heedless(2)
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    found: list[Findings] = []

    def work() -> None:
        try:
            found.append(Findings(_answer(question)))
        except (CameraError, OSError) as error:
            found.append(Findings([], str(error)))

    thread = threading.Thread(target=work)  # harvesters takes over the signals of a main thread
    thread.start()
    thread.join()
    if found:
        os.write(out, msgspec.json.encode(found[0]))
    os._exit(0 if found else 1)


if __name__ == "__main__":
    main()
