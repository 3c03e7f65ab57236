"""The cache of plans: what is there and proven is used, the rest a child process builds and proves first."""

import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from inspectd.engine.backend import Gpu
from inspectd.engine.bundle import Bundle
from inspectd.engine.tensorrt.builder import Answer, Done, Refused, Request, Step
from inspectd.engine.tensorrt.plans import (
    PlanFile,
    PlanFileError,
    PlanKey,
    Proof,
    read_plan,
    read_proof,
    write_whole,
)
from inspectd.runtime.errors import ON_THE_CPU, BundleError, StoppedError, UnavailableError
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.systemd import notify

log = structlog.get_logger()
TURN_S = 1.0
LOG_S = 5.0
"""Time between two log lines about the building, in seconds."""
PATIENCE_S = 30
"""Seconds that systemd is asked to wait longer, in every turn while the builder lives."""


class Wanted(NamedTuple):
    """A plan that is needed: its key, its file, and the file that notes its proof on this machine."""

    key: PlanKey
    path: Path
    proof: Path

    @property
    def title(self) -> str:
        """The plan in words, for people."""
        height, width, _ = self.key.shape
        return f"{self.key.library}, {self.key.precision}, {width}x{height}, {self.key.target}"


def find_proven(wanted: Wanted, gpu: Gpu) -> tuple[PlanFile, int] | None:
    """Find the plan and its difference from the CPU in 1/255; None if it isn't there or not proven here."""
    try:
        plan = read_plan(wanted.path, wanted.key)
    except PlanFileError as error:
        log.info("a plan must be built", plan=wanted.title, file=str(wanted.path), reason=str(error))
        return None
    proof = read_proof(wanted.proof)
    if proof is None or (proof.plan_sha256, proof.gpu, proof.driver) != (plan.sha256, gpu.name, gpu.driver):
        log.info("a plan must be proven", plan=wanted.title, file=str(wanted.path))
        return None
    return plan, proof.difference


def proven_plan(
    wanted: Wanted, bundle: Bundle, gpu: Gpu, timeout_s: float, wake: Handoff[str] | None
) -> tuple[PlanFile, int]:
    """Give the plan and its difference from the CPU in 1/255, after building and proving what is missing.

    Raises BundleError if that can't be done here, UnavailableError if not now, StoppedError when `wake` is filled.
    """
    if (found := find_proven(wanted, gpu)) is not None:
        return found
    done = run_builder(
        Request(str(bundle.path), wanted.key, str(wanted.path), gpu.number), wanted.title, timeout_s, wake
    )
    try:
        plan = read_plan(wanted.path, wanted.key)
    except PlanFileError as error:
        raise UnavailableError(f"{wanted.path}: the plan was built, but {error}") from None
    if done.difference is None or done.plan_sha256 != plan.sha256:
        raise UnavailableError(f"{wanted.path}: the plan was replaced while it was proven; start again")
    log.info("plan ready", plan=wanted.title, built=done.built, difference=f"{done.difference}/255")
    proof = Proof(plan.sha256, gpu.name, gpu.driver, done.difference)
    try:
        write_whole(wanted.proof, msgspec.json.encode(proof))
    except OSError as error:
        log.warning("the proof of a plan can't be kept: it is repeated at each start", reason=error.strerror)
    return plan, done.difference


def run_builder(request: Request, title: str, timeout_s: float, wake: Handoff[str] | None) -> Done:
    """Let a child process build and prove; reports to log and systemd how far it is. Raises as `proven_plan`."""
    began_s = time.monotonic()
    command = [sys.executable, "-P", "-m", "inspectd.engine.tensorrt.builder"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0, process_group=0) as process:  # no Ctrl-C
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it died at once: its exit code says more
            process.stdin.write(msgspec.json.encode(request))
            process.stdin.close()
        last: Answer | None = None
        try:
            logged_s = began_s
            for last in _answers(process, began_s + timeout_s, wake):
                if isinstance(last, Step):
                    logged_s = _report(title, last, began_s, logged_s)
        except TimeoutError:
            raise UnavailableError(
                f"the plan ({title}) is not built after {timeout_s:g} s; allow more "
                f"(build_timeout_s under [engine], or --timeout-s), or {ON_THE_CPU}"
            ) from None
        finally:
            process.kill()
    match last:
        case Done():
            return last
        case Refused(final=True):
            raise BundleError(f"{request.bundle}: the plan ({title}) can't be built: {last.reason}; {ON_THE_CPU}")
        case Refused():
            raise UnavailableError(
                f"the plan ({title}) can't be had now: {last.reason}; try again, or {ON_THE_CPU}"
            )
        case _:
            raise UnavailableError(
                f"the builder of the plan ({title}) {_death(process)}; try again, or {ON_THE_CPU}"
            )


def _death(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _answers(process: subprocess.Popen[bytes], until_s: float, wake: Handoff[str] | None) -> Iterator[Answer]:
    """The child's answers, until its end or its last word; raises TimeoutError or StoppedError."""
    assert process.stdout is not None
    poll, said = select.poll(), b""
    poll.register(process.stdout, select.POLLIN)
    if wake is not None:
        poll.register(wake, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll(TURN_S * 1e3)}
        notify(f"EXTEND_TIMEOUT_USEC={int(PATIENCE_S * 1e6)}")
        if wake is not None and wake.fileno() in ready:
            raise StoppedError("stopped while a plan was being built; what is there by then is kept")
        if time.monotonic() > until_s:
            raise TimeoutError
        if process.stdout.fileno() in ready:
            chunk = process.stdout.read(1 << 16)
            if not chunk:
                process.wait()
                return
            *lines, said = (said + chunk).split(b"\n")
            for line in lines:
                answer: Answer = msgspec.json.decode(line, type=Answer)
                yield answer
                if not isinstance(answer, Step):
                    return


def _report(title: str, step: Step, began_s: float, logged_s: float) -> float:
    """Report a step to systemd, and to the log one every LOG_S; gives when the log had its last line."""
    now_s, where = time.monotonic(), f"{step.phase}, {step.step} of {step.steps}"
    notify(f"STATUS=building a plan ({title}): {where}")
    if now_s - logged_s < LOG_S:
        return logged_s
    log.info("building a plan", plan=title, at=where, seconds=round(now_s - began_s))
    return now_s
