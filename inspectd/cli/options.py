"""What several commands have in common: their options, once."""

from pathlib import Path
from typing import Annotated

import typer

from inspectd.runtime.errors import UserError
from inspectd.wire.endpoints import DEFAULT_RESULTS, beside
from inspectd.wire.keys import Keys

DEFAULT_CONFIG = Path("config.toml")
DEFAULT_CONTROL = beside(DEFAULT_RESULTS, "control")
ConfigOption = Annotated[Path, typer.Option("-c", "--config", help="The line's config file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
JsonAnswerOption = Annotated[bool, typer.Option("--json", help="The answer as one JSON object.")]
ResultsOption = Annotated[str, typer.Option("--connect", help="The daemon's results endpoint.")]
ControlOption = Annotated[str, typer.Option("--connect", help="The daemon's control endpoint.")]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=0.1, max=86400, help="Seconds to wait for the answer.")
]
ServerKeyOption = Annotated[Path | None, typer.Option(help="The daemon's public key, where it wants keys.")]
KeyOption = Annotated[Path | None, typer.Option(help="Our own secret key, then.")]


def keys_of(server_key: Path | None, key: Path | None) -> Keys | None:
    """The keys to connect with, None if none are named; raises UserError for one without the other."""
    if server_key is None and key is None:
        return None
    if server_key is None or key is None:
        raise UserError("--server-key and --key go together: the daemon's public key, and our own secret one")
    return Keys(server_key, key)
