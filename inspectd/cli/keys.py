"""`inspectd keygen`: make the keys with which daemon and clients know each other."""

from pathlib import Path
from typing import Annotated

import typer

from inspectd.wire.keys import write_pair

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; the audit log shows it.")]
FolderOption = Annotated[Path, typer.Option("--folder", metavar="FOLDER", help="Put the two files here.")]


def keygen(name: NameArgument, folder: FolderOption = Path("keys")) -> None:
    """Make a pair of keys, NAME.key (public) and NAME.key_secret, and never overwrite one."""
    public, secret = write_pair(folder, name)
    print(f"{secret}  secret, for {name} alone: copy it nowhere else")
    print(f"{public}  public")
    print()
    print(f"Of a client: copy {public.name} to the line PC, into `read` or `control` of its client_keys folder.")
    print(f'Of a line:   server_key = "{secret}" under [publish]; each client gets a copy of {public.name}.')
