"""Who may connect: CURVE with listed client keys, in the two domains `read` and `control`.

Every TCP socket of a daemon that has a `server_key` is encrypted, and libzmq asks our ZAP handler (RFC 27) about
each key that wants in; until it is answered nothing of that peer is heard. The publish loop serves it like its
other services. A Unix socket is not encrypted: who may use it is a matter of file permissions, see `ipc.py`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import structlog
import zmq
from zmq.utils import z85

from inspectd.publish.handshakes import AUTH, Failures, Watch
from inspectd.settings.publish import Publish
from inspectd.wire.endpoints import host_of, is_loopback
from inspectd.wire.keys import load_clients, load_secret

log = structlog.get_logger()
Domain = Literal["read", "control"]
ZAP = "inproc://zeromq.zap.01"
"""Address at which libzmq asks the ZAP handler, by RFC 27."""
MOST_EVENTS = 32
"""Most monitor events taken in one step."""


class Keyring(NamedTuple):
    """The daemon's own key, and the names of its clients by domain and key."""

    secret: bytes
    clients: dict[str, dict[bytes, str]]


def read_keyring(config: Publish) -> Keyring | None:
    """Read all keys of this config, None if it has no `server_key`; raises ConfigError."""
    if not config.server_key:
        return None
    keyring = Keyring(load_secret(Path(config.server_key)).secret, load_clients(Path(config.client_keys)))
    if not keyring.clients["read"]:
        log.warning("no client key is listed, so nobody can connect", client_keys=config.client_keys)
    return keyring


def client_of(frame: zmq.Frame) -> str:
    """The user id of whoever sent this frame, received with copy=False; empty where no key was asked for."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""


def name_of(user: str) -> str:
    """The name of a user id's key, for people: keys may follow each other under one name."""
    return user.partition(" ")[0]


def _user_id(name: str, key: bytes) -> str:
    return f"{name} {key.decode()}"  # neither has a space in it


class Security:
    """The service of handshakes in the publish loop, whose thread alone calls all but `reload`."""

    busy = False  # polling shows what waits

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], config: Publish, keyring: Keyring | None) -> None:
        """Open the ZAP handler; before any bind, as it must be there when the first peer comes."""
        self._config, self._keyring = config, keyring
        self._failures = Failures()
        self._watches: list[Watch] = []
        self._zap: zmq.Socket[bytes] | None = None
        if keyring is not None:
            self._zap = context.socket(zmq.ROUTER)
            self._zap.setsockopt(zmq.LINGER, 0)
            self._zap.bind(ZAP)

    @property
    def counts(self) -> dict[str, int]:
        """How many handshakes failed since the start, by kind: `auth`, `protocol`, `no_detail`."""
        return {f"handshake_{kind}": count for kind, count in self._failures.counts.items()}

    def protect(self, socket: zmq.Socket[bytes], endpoint: str, domain: Domain) -> None:
        """Let only keys of this domain in; called before `bind`. Unix sockets, and all without keys, stay open."""
        if not endpoint.startswith("tcp://"):
            return
        if self._keyring is None:
            if not is_loopback(host_of(endpoint)):
                log.warning("not encrypted: whoever is in the network can use this socket", endpoint=endpoint)
            return
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._keyring.secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # nobody gets in where no handler answers
        self._watches.append(Watch(socket, self._failures))

    def reload(self) -> bool:
        """Read all keys again, from any thread, and take the clients'; raises ConfigError, and the old ones stay.

        Gives whether the daemon's own key is another one now, which takes a restart. A connection that stands goes
        on, even if its key is struck off: `allows` is asked about each request.
        """
        found = read_keyring(self._config)
        if self._keyring is None or found is None:
            return False
        self._keyring = self._keyring._replace(clients=found.clients)
        return found.secret != self._keyring.secret

    def allows(self, user: str, domain: Domain) -> bool:
        """Whether a client, named as by `client_of`, may still do what the domain stands for: name and key."""
        if self._keyring is None or not user:
            return True
        name, _, key = user.partition(" ")
        return self._keyring.clients[domain].get(key.encode()) == name

    def sockets(self) -> Sequence[zmq.Socket[bytes]]:
        """What to poll, once all sockets are protected."""
        return [self._zap, *(watch.socket for watch in self._watches)] if self._zap is not None else []

    def serve(self) -> bool:
        """Answer one question of libzmq, or else take some events; False if there was nothing to do."""
        self._failures.summarise()
        if self._answer_one():
            return True
        steps = [watch.step(MOST_EVENTS) for watch in self._watches]  # a list: each has its turn
        return any(steps)

    def close(self) -> None:
        """Close handler and monitors; before the close of any protected socket."""
        for watch in self._watches:
            watch.close()
        self._watches.clear()
        if self._zap is not None:
            self._zap.close()

    def _answer_one(self) -> bool:
        if self._zap is None:
            return False
        try:
            peer, empty, version, request, domain, address, _, mechanism, *credentials = self._zap.recv_multipart(
                zmq.DONTWAIT
            )
        except zmq.Again:
            return False
        user = self._user(domain.decode(), address.decode(), mechanism, credentials)
        status = (b"200", b"OK") if user else (b"400", b"not listed")
        # User-Id: from now on every message of this connection says who sent it.
        self._zap.send_multipart((peer, empty, version, request, *status, user.encode(), b""), zmq.DONTWAIT)
        return True

    def _user(self, domain: str, address: str, mechanism: bytes, credentials: list[bytes]) -> str:
        """Id of the client that may use this domain; empty, counted and logged if none may."""
        if self._keyring is None or mechanism != b"CURVE" or len(credentials) != 1:
            self._failures.add(AUTH, address, "it offers no key")
            return ""
        key = z85.encode(credentials[0])
        name = self._keyring.clients.get(domain, {}).get(key, "")
        if not name:
            reader = self._keyring.clients["read"].get(key)
            why = f"the key {key.decode()} is not listed" if reader is None else f"{reader} may only read"
            self._failures.add(AUTH, address, why)
            return ""
        return _user_id(name, key)
