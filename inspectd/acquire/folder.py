"""Images of a folder as a camera: in name order, at a rate or one for each count of a trigger counter."""

import mmap
import struct
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inspectd.acquire.camera import MAX_GAP, U8, EndOfImagesError, Exposure, Started
from inspectd.acquire.protocol import Job
from inspectd.runtime.channels import with_channels
from inspectd.runtime.clock import ClockView, now_ns
from inspectd.runtime.errors import CameraError
from inspectd.runtime.image_files import image_files, read_image, shown_name
from inspectd.runtime.left_out import left_out
from inspectd.settings.camera import CameraBase, FolderCamera

BUFFERS = 16
"""Most exposures that wait; older ones are lost, as in a camera whose buffers are full."""
POLL_S = 0.001


class Folder:
    """A camera whose trigger n shows image (n - 1) modulo the number of images.

    Both sources of triggers go on counting while this process is dead, as a camera on the line does: the
    rate is a clock that began at the first start, the trigger counter is somebody else's file.
    """

    def __init__(self, config: FolderCamera, job: Job, base: Path) -> None:
        self.device = f"folder {config.folder}"
        self._config, self._job, self._base = config, job, base
        self._period_ns = round(1e9 / config.acquisition_frame_rate_hz)
        self._counter: mmap.mmap | None = None
        self._files: list[Path] = []
        self._missed = ""  # what of the folder is not shown, in words
        self._born_ns, self._first = job.born_ns, job.first
        self._last = 0
        self._looks: deque[tuple[int, int]] = deque(maxlen=2 * BUFFERS)  # counts, and when each last stood there
        self._end: int | None = None  # triggers after this one are not exposed any more
        self._ready: tuple[int, U8 | str] = (0, "")  # trigger, its picture or why there is none

    def open(self) -> None:
        """List the images, map the trigger counter."""
        folder = self._base / self._config.folder
        self._files, self._missed = list_images(folder), missed_of(folder)
        if self._config.trigger_counter:
            self._counter = _map_counter(self._base / self._config.trigger_counter)

    def start(self) -> Started:
        """Begin at the device's count as it stands."""
        began_before = self._born_ns != 0
        self._born_ns = self._born_ns or now_ns()
        self._last = self._count()
        self._first = self._first if began_before else self._last
        return Started(self._last, self._born_ns, self._first)

    def restart(self) -> Started:
        """Never called: a folder does not stall."""
        return self.start()

    def caveats(self) -> Iterator[str]:
        """What of the folder is not shown."""
        if self._missed:
            yield f"left out of the folder {self._config.folder}: {self._missed}"

    def clock_view(self) -> ClockView:
        """An empty view: a folder has no clock of its own."""
        return ClockView()

    def features(self) -> Iterator[dict[str, Any]]:
        """No features: a folder has none."""
        yield from ()

    def wait(self, timeout_s: float) -> Exposure | None:
        """Wait for the oldest exposure not read yet. Its picture is decoded ahead, as far as possible."""
        number = self._last + 1
        if not self._config.loop and number - self._first > len(self._files):
            raise EndOfImagesError
        self._decode(number)
        if not self._wait_for(number, now_ns() + int(timeout_s * 1e9)):
            return None
        count = self._count()
        oldest = count if count - number > MAX_GAP else count - BUFFERS + 1  # a count that jumped is one exposure
        self._last = max(number, oldest) if self._config.loop else number
        return Exposure(self._last, self._moment_of(self._last))

    def read(self, image: U8 | None) -> str:
        """Copy the rectangle of the job out of the picture."""
        if image is None:
            return ""
        picture = self._decode(self._last)
        if isinstance(picture, str):
            return picture
        x, y, width, height = self._job.rect
        image[...] = picture[y : y + height, x : x + width]
        return ""

    def stop(self) -> None:
        """End the exposures."""
        self._end = self._count()

    def close(self) -> None:
        """Unmap the counter."""
        if self._counter is not None:
            self._counter.close()

    def _count(self) -> int:
        if self._end is not None:
            return self._end
        if self._counter is not None:
            now, count = now_ns(), int(struct.unpack_from("=Q", self._counter)[0])
            if self._looks and self._looks[-1][0] == count:
                self._looks.pop()
            self._looks.append((count, now))
            return count
        return (now_ns() - self._born_ns) // self._period_ns

    def _moment_of(self, number: int) -> int:
        """When the trigger came. Of a counter it is the last moment at which it had not come yet: no part seems
        fresher than it is, though this process was asleep.
        """
        if self._counter is None:
            return self._born_ns + number * self._period_ns
        return max((at_ns for count, at_ns in self._looks if count < number), default=now_ns())

    def _wait_for(self, number: int, until_ns: int) -> bool:
        """Wait for trigger `number`; gives whether it came before `until_ns`."""
        while (count := self._count()) < number:
            if count < self._last:
                raise CameraError(f"the trigger counter stepped back from {self._last} to {count}")
            now = now_ns()
            if now >= until_ns or self._end is not None:
                return False
            left_s = (until_ns - now) / 1e9
            if self._counter is None:
                left_s = min(left_s, (self._born_ns + number * self._period_ns - now) / 1e9)
            time.sleep(max(0.0, min(left_s, POLL_S) if self._counter else left_s))
        return True

    def _decode(self, number: int) -> U8 | str:
        if self._ready[0] != number:
            path = self._files[(number - 1) % len(self._files)]
            self._ready = number, load_picture(path, self._config, self._job.channels)
        return self._ready[1]


def load_picture(path: Path, camera: CameraBase, channels: int) -> U8 | str:
    """An image file as a camera's picture for a model, uint8 [H, W, channels], or why it can't be one."""
    try:
        picture = with_channels(read_image(path), channels)
    except ValueError as error:
        return str(error)
    height, width, _ = picture.shape
    if (height, width) != (camera.height, camera.width):
        wanted = f"the camera is configured for {camera.width}x{camera.height}"
        return f"{shown_name(path)}: is {width}x{height}, {wanted}"
    return picture


def list_images(folder: Path) -> list[Path]:
    """List the image files of a folder, in name order; raises CameraError if there are none."""
    try:
        files = image_files(folder)
    except OSError as error:
        raise CameraError(f"the image folder {folder} can't be read: {error.strerror}") from None
    if not files:
        raise CameraError(f"the image folder {folder} holds no PNG, JPEG, BMP, TIFF or WebP image")
    return files


def missed_of(folder: Path) -> str:
    """Pictures of a folder that somebody may miss, in words; raises CameraError if it can't be listed."""
    try:
        return left_out(folder).missed
    except OSError as error:
        raise CameraError(f"the image folder {folder} can't be read: {error.strerror}") from None


def _map_counter(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise CameraError(f"the trigger counter {path} must be a file of 8 bytes: {error}") from None
