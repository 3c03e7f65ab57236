"""A frame out of the camera into a slot of the ring."""

from pathlib import Path
from typing import assert_never

from inspectd.acquire.camera import Camera, Job
from inspectd.config import Camera as CameraConfig
from inspectd.config import FolderCamera, GenicamCamera, View


def open_camera(job: Job) -> Camera:
    """The camera that the job's section describes, not yet open."""
    match job.config:
        case FolderCamera():
            from inspectd.acquire.folder import Folder

            return Folder(job.config, job, Path(job.base))
        case GenicamCamera():
            from inspectd.acquire.genicam import Genicam  # harvesters is imported only there

            return Genicam(job.config, job, Path(job.base))
        case _:
            assert_never(job.config)


def probe(config: CameraConfig, view: View, base: Path, channels: int) -> str:
    """Open a camera, set its features, close it; returns what was opened. Raises CameraError."""
    rect = 0, 0, config.width, config.height
    camera = open_camera(Job(config, str(base), view.features, rect, channels, 0))
    try:
        camera.open()
        return camera.device
    finally:
        camera.close()
