"""Ports for a daemon on tcp."""

import random
import socket
from contextlib import ExitStack

from tests.shared import worker

LOWEST, OF_A_WORKER, WORKERS = 20_000, 750, 16


def free_endpoint(host: str = "127.0.0.1") -> str:
    """Of `results`; the two ports after it are free as well.

    Below the ports that the system gives to clients (Linux: 32768 on), or a connection of another test takes one;
    and each worker has its own, or two take the same before either binds it.
    """
    lowest = LOWEST + OF_A_WORKER * (worker() % WORKERS)
    while True:
        port = random.randrange(lowest, lowest + OF_A_WORKER - 2)
        try:
            with ExitStack() as taken:
                for one in range(port, port + 3):
                    family = socket.AF_INET6 if ":" in host else socket.AF_INET
                    taken.enter_context(socket.create_server((host, one), family=family))
        except OSError:
            continue
        return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
