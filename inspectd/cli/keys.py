"""`inspectd keygen`: make the keys with which daemon and clients know each other."""

from pathlib import Path
from typing import Annotated

import typer

from inspectd.wire.keys import write_pair

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; the audit log shows it.")]
FolderOption = Annotated[Path, typer.Option("--folder", help="Where the two files go; made if it is not there.")]


def keygen(name: NameArgument, folder: FolderOption = Path("keys")) -> None:
    """Make a pair of CURVE keys: NAME.key, public, and NAME.key_secret. Nothing is ever overwritten."""
    public, secret = write_pair(folder, name)
    print(f"{secret}  secret, for {name} alone: copy it nowhere else")
    print(f"{public}  public")
    print()
    print(f"Of a client: copy {public.name} to the line PC, into `read` or `control` of its client_keys folder.")
    print(f'Of a line:   server_key = "{secret}" under [publish]; each client gets a copy of {public.name}.')
