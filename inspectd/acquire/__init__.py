"""A frame out of the camera into a slot of the ring."""

from pathlib import Path
from typing import assert_never

from inspectd.acquire.camera import Camera
from inspectd.acquire.orders import Orders, Tell
from inspectd.acquire.protocol import Job
from inspectd.runtime.books import Losses
from inspectd.settings.camera import FolderCamera, GenicamCamera, SimCamera


def open_camera(job: Job, tell: Tell, losses: Losses, orders: Orders | None = None) -> Camera:
    """The camera that the job's section describes, not yet open."""
    match job.config:
        case FolderCamera():
            from inspectd.acquire.folder import Folder

            return Folder(job.config, job, Path(job.base))
        case GenicamCamera():
            from inspectd.acquire.genicam.genicam import Genicam  # harvesters is imported only there

            return Genicam(job.config, job, Path(job.base), tell, losses, orders)
        case SimCamera():
            from inspectd.acquire.simcam.sim import open_sim

            return open_sim(job.config, job, Path(job.base), tell, losses, orders)
        case _:
            assert_never(job.config)
