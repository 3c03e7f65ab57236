"""The life of the process: lock, start, signals, camera processes, watchdog, clean stop."""

import gc
import select
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import structlog

from inspectd.acquire.supervisor import CameraProcess, end_all
from inspectd.pipeline import STAGES, Pipeline, build, make_sources
from inspectd.publish.control import make_link
from inspectd.publish.journal.writer import Journal, boot_id
from inspectd.runtime.books import Ledger
from inspectd.runtime.clock import now_ns
from inspectd.runtime.errors import UnavailableError, UserError
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.locks import LockFile, holder
from inspectd.runtime.progress import Progress
from inspectd.runtime.start import unless_stopped
from inspectd.runtime.systemd import notify, watchdog_period_s
from inspectd.settings.config import Settings
from inspectd.steer.backends import Backends
from inspectd.steer.doubts import doubts
from inspectd.steer.line import RunningLine
from inspectd.steer.recipes import check_recipes, need_restart
from inspectd.steer.reloading import Reloading
from inspectd.steer.selection import begin_with
from inspectd.steer.setup import first_jobs, open_setup
from inspectd.steer.steering import Steering

log = structlog.get_logger()
TURN_S = 0.25
COUNT_S = 0.02
"""Interval at which results are counted when only so many are wanted, in seconds."""
RESTART_TURN_S = 0.01
LOOK_S = 0.5
"""Interval at which the lock's file is looked at, in seconds."""
STOP_S = 5.0
"""Longest time, in seconds, for cameras to end their acquisition and for frames in flight to get their results."""


class Daemon:
    """The daemon of one line; `run` returns the exit code of the process."""

    def __init__(self, settings: Settings, wake: Handoff[str], reload: Handoff[str]) -> None:
        self._stopping = self._broken = False
        self._ended = threading.Event()
        self._wake = wake  # why to stop; filled by signals as well
        self._progress = Progress(STAGES)
        self._lock = lock_line(settings.state_dir, settings.config.line)  # before any socket
        manifests = unless_stopped(lambda: check_recipes(settings), wake)
        for doubt in doubts(settings, manifests):
            log.warning(doubt)
        self._journal = Journal(settings.state_dir / "journal", settings.config.journal, boot_id())
        link, backends = make_link(), Backends()
        with ExitStack() as undo:
            undo.callback(self._journal.close)  # also where it ends here, the next boot must find a clean end
            undo.callback(backends.close)  # where an endpoint can't be had, a GPU is let go of
            part_ids = self._journal.part_ids
            settings, selection, bundle = unless_stopped(lambda: begin_with(settings, part_ids), wake)
            self._settings = settings
            self._ledger = Ledger(len(settings.config.camera))
            deadline_ns = int(settings.recipe.recipe.deadline_ms * 1e6)
            jobs = first_jobs(settings, bundle)
            self._sources = make_sources(jobs, self._ledger, deadline_ns, part_ids)
            rings = [source.ring for source in self._sources]
            setup = unless_stopped(lambda: open_setup(settings, bundle, rings, backends, wake), wake)
            self._pipeline: Pipeline = build(
                settings.config, setup.for_stages, self._sources, rings, self._journal, self._ledger,
                self._progress, self._state, self._fail, link, backends.retire, backends.close,
            )  # fmt: skip
            undo.pop_all()
        self._processes = [CameraProcess(source) for source in self._sources]
        self._line = RunningLine(settings, setup, self._pipeline, self._sources, backends)
        self._steering = Steering(
            settings, selection, link, self._line, self._processes, self._journal, self._ledger, self._state
        )
        security = self._pipeline.publisher.security
        self._reloading = Reloading(reload, settings, self._line, security, self._steering.offer)
        for name in need_restart(settings, manifests, settings.recipe, bundle.manifest):
            log.warning("on the GPU this recipe can't be selected while the line runs", recipe=name)

    def run(self, count: int | None) -> int:
        """Inspect until a signal, `count` results, or the end of all images; every frame gets its result."""
        gc.collect()
        gc.freeze()  # what stands now lives to the end: no collection need look at it again
        for stage in self._pipeline.stages:
            stage.start()
        threading.Thread(target=self._guard_lock, name="lock", daemon=True).start()
        notify("READY=1", "STATUS=ready")
        config = self._settings.config
        log.info(
            "ready", line=config.line, results=config.publish.results, engine=self._line.setup.backend.description
        )
        reason = self._supervise(count)
        log.info("stopping", reason=reason)
        notify("STOPPING=1", f"STATUS=stopping: {reason}")
        return self._stop()

    def _guard_lock(self) -> None:
        """Look whether the lock's file is still there, in a thread of its own: its disk may stall."""
        while not self._ended.wait(LOOK_S):
            self._lock.look()

    def _supervise(self, count: int | None) -> str:
        """Look after camera processes and watchdog until there is a reason to stop; returns it."""
        period_s = watchdog_period_s()
        next_feed_ns = now_ns()
        turn_s = min(TURN_S if count is None else COUNT_S, period_s or TURN_S)
        while True:
            for process in self._processes:
                if not process.source.finished:
                    process.supervise(self._pipeline.changed.put)
            self._wait(min(turn_s, self._steering.turn()))
            self._reloading.step()
            if reasons := list(self._wake.drain()):
                return reasons[0]
            if count is not None and self._pipeline.publisher.published >= count:
                return f"{count} results"
            if all(source.finished for source in self._sources):
                return "no more images"
            if period_s is not None and now_ns() >= next_feed_ns and self._feed_watchdog():
                next_feed_ns = now_ns() + int(period_s * 1e9)

    def _wait(self, turn_s: float) -> None:
        """Wait until there is a reason to stop, a camera process dies, or a turn's time is up."""
        poll = select.poll()
        for waker in (self._wake.fileno(), *self._steering.wakers, self._reloading.fileno()):
            poll.register(waker, select.POLLIN)
        waited = [p for p in self._processes if not p.source.finished]
        for process in waited:
            if process.pidfd >= 0:
                poll.register(process.pidfd, select.POLLIN)
        poll.poll((turn_s if all(p.pidfd >= 0 for p in waited) else RESTART_TURN_S) * 1e3)

    def _feed_watchdog(self) -> bool:
        """Feed the watchdog if every stage makes progress, never by the mere passing of time.

        Returns False if systemd did not take it, to be tried again.
        """
        if stuck := self._progress.stuck():
            log.error("a stage hangs", stages=stuck)
            notify(f"STATUS=a stage hangs: {stuck}")
            return True
        state, detail = self._state()
        results = f"{self._pipeline.publisher.published} results"
        return notify("WATCHDOG=1", f"STATUS={state}, {results}: {detail}")

    def _stop(self) -> int:
        """End the acquisition; the stages end by themselves when the last frame has its result."""
        self._stopping = True
        self._ended.set()
        self._steering.end()
        for process in self._processes:
            process.hurry()
        until_s = time.monotonic() + STOP_S
        while any(stage.is_alive() for stage in self._pipeline.stages) and time.monotonic() < until_s:
            for process in self._processes:
                process.finish(self._pipeline.changed.put)
            self._steering.turn()
            self._pipeline.changed.put(self._sources[0])
            self._pipeline.stages[-1].join(0.02)
        end_all(self._processes, self._pipeline.changed.put)  # they have said all there was to say, or hang
        for source in self._sources:
            source.request_stop(give_up=True)
        self._pipeline.changed.put(self._sources[0])
        for stage in self._pipeline.stages:
            stage.join(STOP_S)
        self._journal.close()
        self._steering.abandon()
        return self._outcome()

    def _outcome(self) -> int:
        books = [self._ledger.read(source.index) for source in self._sources]
        log.info("stopped", results=self._pipeline.publisher.published, in_flight=sum(b.in_flight for b in books))
        for stage in self._pipeline.stages:
            if isinstance(stage.error, UserError):
                log.error(str(stage.error), stage=stage.name)
                return stage.error.exit_code
            if stage.error is not None:
                log.error("stage failed", stage=stage.name, exc_info=stage.error)
            elif stage.is_alive():
                log.error("stage hangs", stage=stage.name)
        return 1 if any(stage.error is not None or stage.is_alive() for stage in self._pipeline.stages) else 0

    def _fail(self) -> None:
        """End the daemon, for a stage found a fault; called by its thread."""
        self._broken = True
        self._wake.put("a stage failed")

    def _state(self) -> tuple[str, str]:
        """State of the line by OPC 40100-1, and a sentence. Read by the publish thread."""
        if self._broken:
            return "Error", "a stage failed"
        if self._stopping:
            return "Halted", "stopping"
        if trouble := self._lock.trouble or self._pipeline.publisher.trouble:
            return "Error", trouble
        dead = [f"camera {s.name}: {s.detail}" for s in self._sources if s.state == "dead" and not s.finished]
        held = self._steering.state()
        if dead:
            return "Preoperational", "; ".join([*dead, held[1]] if held else dead)
        return held or ("ContinuousExecution", "inspecting")


def lock_line(state_dir: Path, line: str) -> LockFile:
    """Hold the line's lock until the process ends; raises UnavailableError if another daemon has it.

    libzmq binds an ipc path that is in use without an error, so this comes before any socket.
    """
    path = state_dir / "lock"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        return LockFile(path)
    except BlockingIOError:
        raise UnavailableError(
            f"line {line!r} already has a daemon (process {holder(path)} holds {path}); "
            "stop it first, or give this line another name"
        ) from None
    except OSError as error:
        raise UnavailableError(f"the state directory {state_dir} can't be used: {error.strerror}") from None
