"""`inspectd keygen`: make the keys with which daemon and clients know each other."""

from pathlib import Path
from typing import Annotated

import typer

from inspectd.errors import UserError
from inspectd.publish.keys import Keys, write_pair

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; the audit log shows it.")]
FolderOption = Annotated[Path, typer.Option("--folder", help="Where the two files go; made if it is not there.")]
ServerKeyOption = Annotated[Path | None, typer.Option(help="The daemon's public key, where it wants keys.")]
KeyOption = Annotated[Path | None, typer.Option(help="Our own secret key, then.")]


def keys_of(server_key: Path | None, key: Path | None) -> Keys | None:
    """The keys to connect with, None if none are named; raises UserError for one without the other."""
    if server_key is None and key is None:
        return None
    if server_key is None or key is None:
        raise UserError("--server-key and --key go together: the daemon's public key, and our own secret one")
    return Keys(server_key, key)


def keygen(name: NameArgument, folder: FolderOption = Path("keys")) -> None:
    """Make a pair of CURVE keys: NAME.key, public, and NAME.key_secret. Nothing is ever overwritten."""
    public, secret = write_pair(folder, name)
    print(f"{secret}  secret, for {name} alone: copy it nowhere else")
    print(f"{public}  public")
    print()
    print(f"Of a client: copy {public.name} to the line PC, into `read` or `control` of its client_keys folder.")
    print(f'Of a line:   server_key = "{secret}" under [publish]; each client gets a copy of {public.name}.')
