"""A folder of images as a simulated GenICam camera: simcam's producer behind the very code of a real camera."""

import os
from pathlib import Path

import structlog

from inspectd.acquire.camera import Camera
from inspectd.acquire.folder import Folder, list_images, missed_of
from inspectd.acquire.orders import Orders, Tell
from inspectd.acquire.protocol import Job
from inspectd.acquire.simcam import world
from inspectd.runtime.books import Losses
from inspectd.runtime.errors import CameraError
from inspectd.settings.camera import FolderCamera, GenicamCamera, GentlCamera, SimCamera

log = structlog.get_logger()
SERIAL = "SIM-{}"


def open_sim(config: SimCamera, job: Job, base: Path, tell: Tell, losses: Losses, orders: Orders | None) -> Camera:
    """Open the simulated camera, made if it is missing; the plain folder where its producer was not built."""
    producer = world.producer()
    if producer is None:
        rate_hz = config.acquisition_frame_rate_hz or 10.0
        log.warning(
            "simcam was not built (no C compiler at the installation): the images are shown without GenICam",
            camera=config.name, rate_hz=rate_hz,
        )  # fmt: skip
        shown = FolderCamera(
            name=config.name, width=config.width, height=config.height, folder=config.folder,
            acquisition_frame_rate_hz=rate_hz,
        )  # fmt: skip
        return Folder(shown, job, base)
    from inspectd.acquire.genicam.genicam import Genicam  # harvesters is imported only there

    folder = sim_folder(Path(job.state_dir))
    shape = config.height, config.width, job.channels
    pictures = list_images(base / config.folder)
    if missed := missed_of(base / config.folder):
        log.warning("of the simulated camera's folder some is left out", camera=config.name, left_out=missed)
    try:
        world.make_camera(folder, config.name, pictures, shape, SERIAL.format(config.name))
    except OSError as error:
        raise CameraError(
            f"the simulated camera can't be made in {folder}: {error.strerror or error}; make room there, or name "
            "another state_dir"
        ) from None
    os.environ[world.FOLDER_VARIABLE] = str(folder)
    return Genicam(as_genicam(config, producer), job, base, tell, losses, orders)


def sim_folder(state_dir: Path) -> Path:
    """Folder of a line's simulated cameras."""
    return state_dir / "simcam"


def as_genicam(config: SimCamera, producer: Path) -> GenicamCamera:
    """The same settings for the one camera that the producer shows for it."""
    same = {name: getattr(config, name) for name in GentlCamera.__struct_fields__}
    return GenicamCamera(**same, cti=str(producer), serial=SERIAL.format(config.name))
