"""CURVE keys in files: how they are made, read, and given to a socket that connects. Needs pyzmq alone.

A pair is two files in the format of pyzmq's certificates: `NAME.key`, public, and `NAME.key_secret`, which holds
both halves and is readable by its owner alone. A key's name is that of its file.
"""

import os
import re
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import zmq
from zmq.utils import z85

from inspectd.runtime.errors import ConfigError, UserError

PUBLIC, SECRET = ".key", ".key_secret"
DOMAINS = ("read", "control")
AGAIN = "copy the file again, or make new keys with `inspectd keygen`"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
NAME_IN_WORDS = "up to 64 letters, digits, '-', '_' and '.', not one of the signs first"
LARGEST_FILE = 65_536
_ENTRY = re.compile(r"""\s*(public|secret)-key\s*=\s*["']?([^"']*?)["']?\s*""")


class KeyPair(NamedTuple):
    """Both halves of a key, each 40 characters of Z85."""

    public: bytes
    secret: bytes


class Keys(NamedTuple):
    """Files that a client needs: the daemon's public key, and the client's own secret key."""

    server: str | Path
    own: str | Path

    def use(self, socket: zmq.Socket[Any]) -> None:
        """Read both files for a socket that is about to connect; raises ConfigError."""
        curve_client(socket, load_public(Path(self.server)), load_secret(Path(self.own)))


def curve_client(socket: zmq.Socket[Any], server_public: bytes, own: KeyPair) -> None:
    """Encrypt what this socket says to the server of that key, and prove who we are. Called before `connect`."""
    socket.setsockopt(zmq.CURVE_SERVERKEY, server_public)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, own.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, own.secret)


def load_public(path: Path) -> bytes:
    """Read the key of a `.key` file, 40 characters of Z85; raises ConfigError."""
    _, entries = _read(path)
    if "secret" in entries:
        raise ConfigError(
            f"{path}: this holds a secret key; the public one is wanted, in the {PUBLIC} file beside it"
        )
    return _key(path, entries, "public")


def load_secret(path: Path) -> KeyPair:
    """Read both keys of a `.key_secret` file, which only its owner may read; raises ConfigError."""
    status, entries = _read(path)
    if "public" in entries and "secret" not in entries:
        raise ConfigError(
            f"{path}: this holds a public key; the secret one is wanted, in the {SECRET} file beside it"
        )
    secret = _key(path, entries, "secret")
    # As PostgreSQL has it: what root gives to us, as systemd does with credentials, shows the group's bit.
    refused = 0o027 if status.st_uid == 0 != os.geteuid() else 0o077
    if stat.S_IMODE(status.st_mode) & refused:
        raise ConfigError(
            f"{path}: a secret key that others may read is none: make it yours alone, chmod 600 {path}"
        )
    public = zmq.curve_public(secret)
    if _key(path, entries, "public") != public:
        raise ConfigError(f"{path}: its public and its secret key are not of one pair: {AGAIN}")
    return KeyPair(public, secret)


def load_clients(folder: Path) -> dict[str, dict[bytes, str]]:
    """Read who may connect: for the domains `read` and `control` the names by key; raises ConfigError.

    Whoever may control may also read.
    """
    try:
        next(
            folder.iterdir(), None
        )  # the folder itself must be there, each of the two below it only if it has keys
        read, control = (_load_folder(folder / domain) for domain in DOMAINS)
    except OSError as error:
        where = error.filename or folder
        raise ConfigError(f"{where}: publish.client_keys: the folder can't be read: {error.strerror}") from None
    return {"read": read | control, "control": control}


def _load_folder(folder: Path) -> dict[bytes, str]:
    names: dict[bytes, str] = {}
    for path in sorted(folder.iterdir()) if folder.exists() else []:
        if path.suffix != PUBLIC:
            continue
        if not NAME.fullmatch(path.stem):
            raise ConfigError(f"{path}: a key's name is {NAME_IN_WORDS}: rename the file")
        key = load_public(path)
        if key in names:
            raise ConfigError(f"{path}: this is also the key {names[key]}{PUBLIC}: one key, one name; remove one")
        names[key] = path.stem
    return names


def write_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Make `NAME.key` and `NAME.key_secret`, never over a file that is there; raises UserError."""
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r} can't be the name of a key: {NAME_IN_WORDS}")
    public, secret = zmq.curve_keypair()
    public_text = f'\ncurve\n    public-key = "{public.decode()}"\n'
    secret_text = f'{public_text}    secret-key = "{secret.decode()}"\n'
    public_path, secret_path = folder / f"{name}{PUBLIC}", folder / f"{name}{SECRET}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_new(secret_path, f"# Secret CURVE key {name} of inspectd: give it to nobody.\n{secret_text}", 0o600)
        try:
            _write_new(public_path, f"# Public CURVE key {name} of inspectd.\n{public_text}", 0o644)
        except OSError:
            secret_path.unlink()  # half a pair would only be in the way
            raise
    except FileExistsError as error:
        raise UserError(f"{error.filename} exists already and is not overwritten: choose another name") from None
    except OSError as error:
        raise UserError(f"{error.filename or folder}: can't be written: {error.strerror}") from None
    return public_path, secret_path


def _write_new(path: Path, text: str, mode: int) -> None:
    """Write a new file whole or not at all; its mode is `mode` from the first moment, or less at first."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode & 0o600)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
            os.fchmod(fd, mode)  # whatever the umask is
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from None


def _read(path: Path) -> tuple[os.stat_result, dict[str, list[str]]]:
    """Read a key file: its status, and the values of `public-key` and `secret-key` in it; raises ConfigError."""
    try:
        with os.fdopen(
            os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb"
        ) as file:  # a FIFO would wait
            status = os.fstat(file.fileno())
            raw = file.read(LARGEST_FILE + 1) if stat.S_ISREG(status.st_mode) else None
    except FileNotFoundError:
        raise ConfigError(f"{path}: the key file does not exist; `inspectd keygen` makes keys") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: the key file can't be read: {reason}") from None
    if raw is None or len(raw) > LARGEST_FILE:
        raise ConfigError(f"{path}: this is no key file; `inspectd keygen` makes keys")
    entries: dict[str, list[str]] = {}
    for line in raw.decode("latin-1").splitlines():
        if match := _ENTRY.fullmatch(line):
            entries.setdefault(match[1], []).append(match[2])
    return status, entries


def _key(path: Path, entries: dict[str, list[str]], half: str) -> bytes:
    found = entries.get(half, [])
    if len(found) != 1:
        many = "no" if not found else "more than one"
        raise ConfigError(f"{path}: this is no key file, it has {many} {half}-key; `inspectd keygen` makes keys")
    key = found[0].encode("latin-1")
    try:
        whole = len(key) == 40 and len(z85.decode(key)) == 32
    except (ValueError, KeyError, struct.error):
        whole = False
    if not whole:
        raise ConfigError(f"{path}: its {half}-key is damaged, it must be 40 characters of Z85: {AGAIN}")
    return key
