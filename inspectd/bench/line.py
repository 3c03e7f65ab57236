"""A line of its own for a measurement: simulated cameras, the daemon as a user starts it, a subscriber."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from inspectd.acquire.simcam import sim
from inspectd.acquire.simcam.world import Rig, camera_path
from inspectd.runtime.errors import ConfigError, UserError
from inspectd.settings.camera import FolderCamera, SimCamera
from inspectd.settings.config import Settings
from inspectd.subscribe import Beat, Control, Received, Results
from inspectd.wire.results import CameraView

CAMERA = "sim"
START_S = 60.0


def pictures_of(settings: Settings) -> tuple[Path, int, int]:
    """Folder, width and height of the first camera that shows images; raises ConfigError if there is none."""
    camera = shown_camera(settings)
    return settings.base.resolve() / camera.folder, camera.width, camera.height


def shown_camera(settings: Settings) -> FolderCamera | SimCamera:
    """The first camera that shows images; raises ConfigError if there is none."""
    for camera in settings.config.camera:
        if isinstance(camera, FolderCamera | SimCamera):
            return camera
    raise ConfigError(
        "this bench needs a camera of kind sim or folder in the config: it takes its pictures from there"
    )


def _quoted(path: Path) -> str:
    return msgspec.json.encode(str(path)).decode()  # a TOML text as well


def _recipe_text(settings: Settings, deadline_ms: int | None) -> str:
    """The recipe's limits, without its regions of a camera that is not here; a frozen camera is reported."""
    recipe = settings.recipe
    lines = [f"model = {_quoted(recipe.model_dir.resolve())}"]
    lines += [f"deadline_ms = {deadline_ms or recipe.recipe.deadline_ms}"]
    lines += ["[image]", "refuse_identical = true"]
    for name, limits in recipe.recipe.limits.items():
        kept = ((key, value) for key, value in msgspec.to_builtins(limits).items() if value is not None)
        lines += [f"[limits.{name}]", *(f"{key} = {value}" for key, value in kept)]
    return "\n".join(lines) + "\n"


class BenchLine:
    """`with` starts the daemon and waits until its cameras stream; the end stops it.

    camera: lines of the config that all of `names`, the cameras, share.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        camera: str,
        high_water_mark: int = 100_000,
        images: Path | None = None,
        is_heard: bool = True,
        deadline_ms: int | None = None,
        names: Sequence[str] = (CAMERA,),
    ) -> None:
        """images: another folder than the config's; is_heard: stderr is read; deadline_ms: another one than the
        recipe's.
        """
        shown, width, height = pictures_of(settings)
        if (scale := shown_camera(settings).mm_per_px) is not None:
            camera += f"\nmm_per_px = {scale}"
        self._is_heard = is_heard
        self.folder, self.endpoint = folder, f"ipc://{folder}/results"
        self.state_dir = folder / "state" / "bench"
        self.results: list[Received] = []
        self.views: dict[str, CameraView] = {}
        """The cameras, by name, as the last heartbeat has them."""
        self.state = ""
        self.counts: dict[str, int] = {}
        """Numbers of what clients asked, by the last heartbeat."""
        (folder / "recipe.toml").write_text(_recipe_text(settings, deadline_ms))
        self._names = tuple(names)
        self._config = folder / "config.toml"
        cameras = "\n".join(
            f'[[camera]]\nname = "{name}"\nkind = "sim"\nfolder = {_quoted(images or shown)}\n'
            f"width = {width}\nheight = {height}\n{camera}\n"
            for name in names
        )
        self._config.write_text(
            f'line = "bench"\nrecipes = ["recipe.toml"]\n'
            f'state_dir = "state"\n\n[publish]\nresults = "{self.endpoint}"\n'
            f"high_water_mark = {high_water_mark}\n\n{cameras}"
        )

    def __enter__(self) -> "BenchLine":
        self._log = (self.folder / "log").open("w")
        command = [sys.executable, "-P", "-m", "inspectd", "run", "-c", str(self._config)]
        stderr = self._log if self._is_heard else subprocess.PIPE
        self.daemon = subprocess.Popen(command, stdout=self._log, stderr=stderr)
        self.control = Control(f"ipc://{self.folder}/control")
        self._subscriber = Results(self.endpoint, high_water_mark=1_000_000)
        self.until(lambda: self.state == "ContinuousExecution", START_S, "the camera does not stream")
        self.rigs = [Rig(camera_path(sim.sim_folder(self.state_dir), name)) for name in self._names]
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.daemon.send_signal(signal.SIGTERM)
        try:
            self.daemon.wait(20)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
        self._subscriber.close()
        self.control.close()
        self._log.close()
        if self.daemon.stderr is not None:
            self.daemon.stderr.close()
        for rig in getattr(self, "rigs", ()):
            rig.close()

    @property
    def rig(self) -> Rig:
        """The first camera, for who plays the machine around it."""
        return self.rigs[0]

    @property
    def view(self) -> CameraView | None:
        """The first camera, as the last heartbeat has it."""
        return self.views.get(self._names[0])

    @property
    def camera_pid(self) -> int | None:
        """Id of the daemon's first camera process; None while there is none."""
        return next(iter(self.camera_pids), None)

    @property
    def camera_pids(self) -> list[int]:
        """Ids of the daemon's camera processes that there are just now."""
        children = Path(f"/proc/{self.daemon.pid}/task/{self.daemon.pid}/children").read_text().split()
        return [int(child) for child in children]

    def kill_camera(self, number: int = signal.SIGKILL) -> None:
        """Signal the camera process, if there is one just now."""
        if (pid := self.camera_pid) is not None:
            os.kill(pid, number)

    def take(self, timeout_s: float) -> None:
        """Take what the daemon says within the time-out: at least one event if there is any."""
        event = self._subscriber.receive(timeout_s)
        while event is not None:
            if isinstance(event, Received):
                self.results.append(event)
            elif isinstance(event, Beat):
                self.state, self.views = event.heartbeat.state, event.heartbeat.cameras
                self.counts = event.heartbeat.counts
            event = self._subscriber.receive(0)

    def take_for(self, seconds: float) -> None:
        """Take what the daemon says for so long."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            self.take(left_s)

    def until(self, holds: Callable[[], bool], timeout_s: float, else_say: str) -> None:
        """Take what the daemon says until something holds; raises UserError after the time-out."""
        end_s = time.monotonic() + timeout_s
        while not holds():
            if self.daemon.poll() is not None or time.monotonic() > end_s:
                raise UserError(f"{else_say}; the daemon's log:\n{(self.folder / 'log').read_text()[-2000:]}")
            self.take(0.05)
