"""The `[publish]` and `[journal]` sections of `config.toml`."""

from typing import Annotated

from msgspec import Meta, Struct, structs

from inspectd.wire.endpoints import DEFAULT_RESULTS, beside, check_endpoint

IPC_PATH_BYTES = 107
"""Bytes for which a Unix socket's address has room."""


class Publish(Struct, frozen=True, forbid_unknown_fields=True):
    """The `[publish]` section: the public sockets."""

    results: str = DEFAULT_RESULTS
    query: str = ""
    """Endpoint for missed results; "" = beside `results`: the next port, or the file `query`."""
    control: str = ""
    """Endpoint for steering the daemon; "" = beside `results`: the port after the next, or the file `control`."""
    high_water_mark: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    """Messages kept per slow subscriber; further ones are dropped, and the subscriber has to ask for them."""
    heartbeat_ms: Annotated[int, Meta(ge=100, le=250)] = 200
    images: str = ""
    """Path of the image socket; empty = `images` beside an ipc `results`, else in `state_dir`/`line`."""

    server_key: str = ""
    """File of the daemon's secret key; with it every tcp endpoint is encrypted."""
    client_keys: str = ""
    """Folder of the public keys of who may connect, in `read` and `control`."""
    allow_insecure: bool = False
    """Whether other machines may reach an endpoint though there is no server_key."""

    def __post_init__(self) -> None:
        guarded = bool(self.server_key) or self.allow_insecure
        check_endpoint("results", self.results, guarded)
        for key in ENDPOINTS[1:]:
            if not getattr(self, key):
                structs.force_setattr(self, key, beside(self.results, key))
            check_endpoint(key, getattr(self, key), guarded)
        if len({getattr(self, key) for key in ENDPOINTS}) < len(ENDPOINTS):
            raise ValueError(f"{', '.join(ENDPOINTS)} must each be an endpoint of its own")
        if bool(self.server_key) != bool(self.client_keys):
            given, missing = ("server_key", "client_keys") if self.server_key else ("client_keys", "server_key")
            raise ValueError(f"{given} needs {missing} beside it")
        if self.server_key and self.allow_insecure:
            raise ValueError("server_key and allow_insecure exclude each other: leave one out")


ENDPOINTS = ("results", "query", "control")
"""Keys of `publish` that are ZeroMQ endpoints."""


class JournalConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The `[journal]` section: results are kept in `segments` files of `segment_mib` MiB, the oldest reused."""

    segment_mib: Annotated[int, Meta(ge=1, le=1024)] = 8
    segments: Annotated[int, Meta(ge=2, le=1024)] = 8
