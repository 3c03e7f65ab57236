"""The commands of a line: `inspectd run` and `watch`."""

import ctypes
import logging
import os
import resource
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from inspectd.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    DaemonConfigOption,
    JsonOption,
    KeyOption,
    ResultsOption,
    ServerKeyOption,
)
from inspectd.cli.stderr import LOG, leave, log_to_stderr, never_wait_for_readers
from inspectd.cli.target import find_daemon
from inspectd.runtime.errors import UserError
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.start import unless_stopped
from inspectd.settings import config

if TYPE_CHECKING:
    from inspectd.daemon import Daemon

PR_SET_PDEATHSIG = 1
WATCHER_S = 5.0
"""Longest time in seconds that the watch of `run --watch` gets to end."""
DESCRIPTORS = 16384
"""As many as systemd/inspectd@.service allows: each connection takes one, and silent ones must not use them up."""


def run(
    path: ConfigOption = DEFAULT_CONFIG,
    count: Annotated[int | None, typer.Option(metavar="N", min=1, help="Stop after at least N results.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show the results here, not the log.")] = False,
) -> None:
    """Run the daemon of a line until Ctrl-C or SIGTERM."""
    wake, reload = _catch_signals()  # before anything slow: an early Ctrl-C ends what is being started, cleanly
    log_to_stderr(logging.INFO)  # with --watch, till the results are shown: the start takes some seconds
    never_wait_for_readers(stdout=not watch)
    if watch:
        print(
            f"checking {path}, its recipes and models, then compiling the network: some seconds", file=sys.stderr
        )
    _allow_descriptors()
    from inspectd.daemon import Daemon

    settings = unless_stopped(lambda: config.load(path), wake)
    endpoint = settings.config.publish.results
    if watch and settings.config.publish.server_key and not endpoint.startswith("ipc://"):
        raise UserError(f"--watch has no key for {endpoint}: leave it out, and use `inspectd watch` with one")
    daemon = Daemon(settings, wake, reload)
    if not watch:
        leave(daemon.run(count))
    leave(_run_watched(daemon, endpoint, count))


def _run_watched(daemon: "Daemon", endpoint: str, count: int | None) -> int:
    """Run the daemon while a second process shows its results; gives the exit code.

    Where that one takes over the terminal, warnings of the log wait until it is given back.
    """
    from inspectd.subscribe.watch import fills_terminal

    log_to_stderr(logging.WARNING)
    command = [sys.executable, "-P", "-m", "inspectd", "watch", "--with-parent"]
    command += ["--connect", endpoint]
    stderr = LOG.fileno() if LOG.fileno() >= 0 else None  # as it was: it may wait for its reader
    watcher = subprocess.Popen(
        command, stderr=stderr, start_new_session=True
    )  # the daemon's Ctrl-C is not its own
    if fills_terminal():
        LOG.hold_back()
    try:
        return daemon.run(count)
    finally:
        watcher.send_signal(signal.SIGINT)
        try:
            watcher.wait(WATCHER_S)
        except subprocess.TimeoutExpired:  # nobody reads what it shows
            watcher.kill()
        LOG.let_go()


def _catch_signals() -> tuple[Handoff[str], Handoff[str]]:
    """Catch what ends the daemon, and what has it read its files anew; gives a hand-off for each.

    SIGHUP means the latter, unless it says that the terminal is gone in which the daemon was started.
    """
    wake: Handoff[str] = Handoff()
    reload: Handoff[str] = Handoff()
    in_terminal = _has_terminal()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: wake.put(signal.Signals(n).name))

    def hung_up(*_: object) -> None:
        if in_terminal and not _has_terminal():
            wake.put("the terminal is gone")
        else:
            reload.put("SIGHUP")

    signal.signal(signal.SIGHUP, hung_up)
    return wake, reload


def _has_terminal() -> bool:
    """Whether the process has a terminal that controls it."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _allow_descriptors() -> None:
    """Raise the limit of open descriptors as far as we may, up to DESCRIPTORS; a shell mostly gives 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def watch(
    config: DaemonConfigOption = None,
    connect: ResultsOption = None,
    count: Annotated[int | None, typer.Option(metavar="N", min=1, help="Stop after N results.")] = None,
    json: JsonOption = False,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
    with_parent: Annotated[bool, typer.Option(hidden=True, help="End when the parent ends.")] = False,
) -> None:
    """Show each result of a running daemon once, its silence, and what can't be had any more."""
    from inspectd.subscribe.watch import watch as watch_results

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the terminal is given back
    if with_parent:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    endpoint, keys = find_daemon("results", connect, config, server_key, key)
    watch_results(endpoint, count, json, keys)
