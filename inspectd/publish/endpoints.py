"""The public ZeroMQ sockets: results, query, control; bound, guarded, and bound again where their files go."""

import os
import resource
from contextlib import ExitStack

import structlog
import zmq

from inspectd.publish.control import limit_queues
from inspectd.publish.ipc import OwnPath
from inspectd.publish.security import Security, read_keyring
from inspectd.publish.sockets import bind, ipc_path, opened
from inspectd.settings.publish import ENDPOINTS, Publish

log = structlog.get_logger()
Socket = zmq.Socket[bytes]
MAX_TOPIC = 512
"""Most bytes of a subscription; the longest topic has 70, and CURVE's handshake 280. Each byte of those that a
client makes up costs 47 in this process, and time in this thread."""
QUERY_HWM = 4
"""Most answers kept for a client that reads none (it asks again for those dropped), and most of its questions."""
KEPT_LISTENERS = 16
"""Number of times that a socket is bound again beside its earlier binds, which keep the connections that they have
taken. Then all of these are ended, and clients connect anew: each bind takes a descriptor."""

CROWDED, CROWDED_AGAIN = 0.5, 0.4
"""Share of the descriptors that may be in use until Unix sockets take nobody more, and below which they do again.
At the limit libzmq 4.3.5 aborts the process when somebody connects to one (EMFILE, ipc_listener.cpp:297); so there
is room left for who connects between two looks."""


class Endpoints:
    """The three sockets, and what guards them. Made by any thread, then used by the publish thread alone."""

    def __init__(self, config: Publish) -> None:
        """Bind all three; raises UnavailableError, and then none is."""
        self._config = config
        self._paths: dict[str, OwnPath] = {}
        self._is_crowded = False
        self._binds = dict.fromkeys(ENDPOINTS, 0)
        with ExitStack() as undo:
            keyring = read_keyring(config)
            for key in ENDPOINTS:  # held until the context has ended: only then are the sockets gone
                if path := ipc_path(getattr(config, key)):
                    self._paths[key] = OwnPath(path, f"publish.{key}: {getattr(config, key)}")
                    undo.callback(self._paths[key].close)
            context = zmq.Context()
            undo.callback(context.term)  # lets the last messages out, at most LINGER_MS long
            self.results = opened(context, zmq.XPUB, config.results, undo)
            self.query = opened(context, zmq.ROUTER, config.query, undo)
            self.control = opened(context, zmq.ROUTER, config.control, undo)
            self.results.setsockopt(zmq.SNDHWM, config.high_water_mark)
            self.results.setsockopt(zmq.MAXMSGSIZE, MAX_TOPIC)
            self.query.setsockopt(zmq.SNDHWM, QUERY_HWM)
            self.query.setsockopt(zmq.RCVHWM, QUERY_HWM)
            limit_queues(self.control)
            self.security = Security(context, config, keyring)  # before any bind
            self.security.protect(self.results, config.results, "read")
            self.security.protect(self.query, config.query, "read")
            self.security.protect(self.control, config.control, "control")
            for key in ENDPOINTS:
                self._bind(key)
                if key in self._paths:
                    self._paths[key].note()
            self._undo = undo.pop_all()

    def look(self) -> str:
        """Look whether the sockets' files are there still; gives what is wrong with them, else nothing."""
        was_crowded = self._is_crowded
        self._is_crowded = bool(self._paths) and _is_crowded(CROWDED_AGAIN if was_crowded else CROWDED)
        if self._is_crowded:
            for path in self._paths.values():
                path.hide()
            trouble = f"{len(self._paths)} Unix sockets take nobody more: hardly any descriptor is left"
            if not was_crowded:
                log.error(trouble)
            return trouble
        for key, path in self._paths.items():
            path.look(lambda key=key: self._bind(key))  # type: ignore[misc]
        return "; ".join(path.trouble for path in self._paths.values() if path.trouble)

    def _bind(self, key: str) -> None:
        """Bind a socket to its endpoint; who is connected through an earlier bind stays so."""
        socket: Socket = getattr(self, key)
        endpoint: str = getattr(self._config, key)
        if self._binds[key] == KEPT_LISTENERS:
            socket.unbind(endpoint)
            self._binds[key] = 0
        bind(socket, key, endpoint)
        self._binds[key] += 1

    def close(self) -> None:
        """Let the last messages out, at most LINGER_MS long."""
        self._undo.close()


def _is_crowded(share: float) -> bool:
    """Whether more than this share of the descriptors that the process may have are in use."""
    try:
        in_use = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (no object for each of thousands)
    except OSError:
        return True  # none is left to look with
    return in_use >= share * resource.getrlimit(resource.RLIMIT_NOFILE)[0]
