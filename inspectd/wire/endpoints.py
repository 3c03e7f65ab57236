"""Endpoints of the public sockets: which are allowed, and which lie beside each other."""

import ipaddress

DEFAULT_RESULTS = "tcp://127.0.0.1:5556"
"""Where a line publishes its results unless its config says otherwise; `query` and `control` are beside it."""


def check_endpoint(key: str, endpoint: str, guarded: bool) -> None:
    """Raise ValueError for an endpoint that can't be bound, or that others can reach and that is not guarded."""
    if endpoint.startswith("ipc://") and len(endpoint) > len("ipc://"):
        return
    host, port = host_of(endpoint), endpoint.rpartition(":")[2]
    if not endpoint.startswith("tcp://") or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{key} must look like tcp://127.0.0.1:5556 or ipc://path, got {endpoint}")
    if not is_loopback(host) and not guarded:
        raise ValueError(
            f"{key}: other machines can reach {endpoint}: set server_key and client_keys (`inspectd keygen`), "
            "or allow_insecure = true, or bind to 127.0.0.1"
        )


def host_of(endpoint: str) -> str:
    """Host of a tcp endpoint: what stands between tcp:// and the port."""
    return endpoint.removeprefix("tcp://").rpartition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def beside(results: str, name: str) -> str:
    """Give the endpoint `query` or `control` that a line has beside `results`, unless its config says otherwise.

    For tcp it is the next port (`query`) or the one after it (`control`), for ipc a file of that name in the same
    folder. Raises ValueError for what is no endpoint, or if there is no such port.
    """
    if results.startswith("ipc://"):
        folder, slash, _ = results.rpartition("/")
        return f"{folder}{slash}{name}"
    host, _, port = results.rpartition(":")
    if not port.isdecimal():
        raise ValueError(f"{results} is no endpoint like tcp://127.0.0.1:5556 or ipc://path")
    beside = int(port) + (1 if name == "query" else 2)
    if beside > 65535:
        raise ValueError(f"there is no port for {name} beside {results}; name one")
    return f"{host}:{beside}"
