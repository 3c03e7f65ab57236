"""Messages to systemd, and its wish for signs of life."""

import functools
import os
import socket

LONGEST = 1000
"""Most bytes of one assignment: systemd passes over a message of more than 4096 as a whole."""


def notify(*assignments: str) -> bool:
    """Notify systemd, by the datagram protocol of sd_notify(3); never waits for it.

    Returns False where the message could not be sent now, as when systemd has not read those before: it is
    dropped, and may be sent again. True outside a notify unit, where nothing happens.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return True
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket
    texts = [text.replace("\n", " ").encode(errors="replace")[:LONGEST] for text in assignments]
    try:
        _socket().sendto(b"\n".join(texts), socket.MSG_DONTWAIT, address)
    except OSError:
        return False  # a manager that does not listen must not stop the line
    return True


@functools.cache
def _socket() -> socket.socket:
    """The socket of the process, made once: later there may be no descriptor left for one. Raises OSError."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def watchdog_period_s() -> float | None:
    """Period in seconds in which systemd wants a sign of life, a third of its limit; None if it wants none."""
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    wanted_of = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not limit_us.isdecimal() or wanted_of != str(os.getpid()):
        return None
    return int(limit_us) / 3e6
