"""Which running daemon a command means, and with which keys it may speak to it."""

from pathlib import Path
from typing import Literal

import typer

from inspectd.cli.options import DEFAULT_CONFIG
from inspectd.runtime.errors import UserError
from inspectd.settings.config import load_publish
from inspectd.wire.endpoints import DEFAULT_RESULTS, beside
from inspectd.wire.keys import Keys


def find_daemon(
    socket: Literal["results", "control"],
    connect: str | None,
    config: Path | None,
    server_key: Path | None,
    key: Path | None,
) -> tuple[str, Keys | None]:
    """Endpoint of a daemon's socket and the keys for it, from a command's four options.

    Without `--connect` and `-c` the one of ./config.toml is meant, or where there is none, the default endpoint.
    Raises UserError, also if the config says that keys are wanted and none are given.
    """
    keys = keys_of(server_key, key)
    if connect is not None:
        if config is not None:
            raise typer.BadParameter("give --connect or --config, not both")
        return connect, keys
    if config is None and not DEFAULT_CONFIG.exists():
        return (DEFAULT_RESULTS if socket == "results" else beside(DEFAULT_RESULTS, socket)), keys
    path = config or DEFAULT_CONFIG
    publish = load_publish(path)
    endpoint: str = getattr(publish, socket)
    if publish.server_key and not endpoint.startswith("ipc://") and keys is None:
        raise UserError(
            f"the daemon of {path} wants keys at {endpoint}: give --server-key, its public key, and --key, a "
            "secret key whose public half lies in its client_keys"
        )
    return endpoint, keys


def keys_of(server_key: Path | None, key: Path | None) -> Keys | None:
    """The keys to connect with, None if none are named; raises UserError for one without the other."""
    if server_key is None and key is None:
        return None
    if server_key is None or key is None:
        raise UserError("--server-key and --key go together: the daemon's public key, and our own secret one")
    return Keys(server_key, key)
