"""Messages to systemd, and its wish for signs of life."""

import os
import socket


def notify(*assignments: str) -> None:
    """Notify systemd, by the datagram protocol of sd_notify(3); nothing happens outside a notify unit."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(address)
            sock.sendall("\n".join(text.replace("\n", " ") for text in assignments).encode())
        except OSError:
            return  # a manager that does not listen must not stop the line


def watchdog_period_s() -> float | None:
    """Period in seconds in which systemd wants a sign of life, a third of its limit; None if it wants none."""
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    wanted_of = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not limit_us.isdecimal() or wanted_of != str(os.getpid()):
        return None
    return int(limit_us) / 3e6
