"""A publisher on tcp whose loop stalls while a client that floods a socket is killed; ends with 0 if it lives.

python -m tests.publish.stalled FOLDER query|control
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from inspectd.wire.endpoints import beside
from tests.ports import free_endpoint
from tests.publish.lines import Line

STALL_S = 1.5
FLOOD = """
import sys, zmq
context = zmq.Context()
sockets = [context.socket(zmq.DEALER) for _ in range(8)]
for socket in sockets:
    socket.connect(sys.argv[1])
while True:
    for socket in sockets:
        if socket.poll(1, zmq.POLLOUT):
            socket.send(b'{"verb": "snapshot", "id": 1}')
"""


class Stall:
    """A service that takes its time."""

    busy = True
    on = False

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def sockets(self) -> Sequence[int]:
        return []

    def serve(self) -> bool:
        time.sleep(STALL_S if self.on else 0)
        return False

    def close(self) -> None:
        pass


def main() -> None:
    line, stall = Line(Path(sys.argv[1]), endpoint=free_endpoint()), Stall()
    line.publisher._services.append(stall)
    command = [sys.executable, "-c", FLOOD, beside(line.endpoint, sys.argv[2])]
    for _ in range(2):
        flood = subprocess.Popen(command)
        time.sleep(1.0)
        stall.on = True
        time.sleep(0.5)
        flood.kill()
        flood.wait()
        time.sleep(STALL_S)
        stall.on = False
    line.stop()


if __name__ == "__main__":
    main()
