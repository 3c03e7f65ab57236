"""Writes docs/protocol/ from the code: `python -m inspectd_train.dev.protocol_files`.

A JSON Schema of every body, and an AsyncAPI 3.0 document that says which body travels where. AsyncAPI knows no
ZeroMQ: what it lacks stands under `x-zmq`.
"""

import struct
from pathlib import Path
from typing import Any

import msgspec

from inspectd.settings.publish import Publish
from inspectd.wire import requests
from inspectd.wire import results as wire

FOLDER = Path(__file__).parents[2] / "docs/protocol"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
FORMAT = "application/schema+json;version=draft-2020-12"
SCHEMAS: dict[str, Any] = {
    "result": wire.Result,
    "heartbeat": wire.Heartbeat,
    "snapshot": wire.Snapshot,
    "snapshot_reply": wire.SnapshotReply,
    "replay": wire.Replay,
    "replay_reply": wire.ReplayReply,
    "query_error": wire.QueryError,
    "control_request": requests.Request,
    "control_answer": requests.Answer,
}
"""The schemas' files without their ending, and the types they describe."""
QUERIES = ["snapshot", "snapshot_reply", "replay", "replay_reply", "query_error"]
WIDTHS = {"s": "bytes", "B": "u8", "H": "u16", "Q": "u64"}
FIELDS = ("magic", "version", "codec", *wire.Header._fields)


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of a body; fields that it does not name are allowed, but for those of questions."""
    return {"$schema": DRAFT, "$id": f"{name}.schema.json", **msgspec.json.schema(SCHEMAS[name])}


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI document of the daemon, which sends results and heartbeats, and receives questions."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "inspectd",
            "version": f"{wire.VERSION}.{wire.MINOR}.0",
            "description": "The wire protocol of one inspection line. Its rules are in docs/protocol.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "results": _server(Publish().results, "XPUB", "SUB"),
            "query": _server(Publish().query, "ROUTER", "DEALER"),
            "control": _server(Publish().control, "ROUTER", "DEALER"),
        },
        "channels": {
            "results": _channel("res/{line}/{camera}/", "results", ["result"], ("line", "camera")),
            "heartbeat": _channel("hb/{line}/", "results", ["heartbeat"], ("line",)),
            "query": _channel(None, "query", QUERIES),
            "control": _channel(None, "control", ["control_request", "control_answer"]),
        },
        "operations": {
            "sendResult": _operation("send", "results", ["result"]),
            "sendHeartbeat": _operation("send", "heartbeat", ["heartbeat"]),
            "answerSnapshot": _operation("receive", "query", ["snapshot"], ["snapshot_reply", "query_error"]),
            "answerReplay": _operation("receive", "query", ["replay"], ["replay_reply", "query_error"]),
            "answerControl": _operation("receive", "control", ["control_request"], ["control_answer"]),
        },
        "components": {"messages": {name: _message(name) for name in SCHEMAS}},
    }


def _server(endpoint: str, kind: str, yours: str) -> dict[str, Any]:
    host = endpoint.removeprefix("tcp://")
    more = {"binds": kind, "connect": yours, "transports": ["tcp", "ipc"], "security": ["NULL", "CURVE"]}
    return {"host": host, "protocol": "zmq", "protocolVersion": "ZMTP 3.1", "x-zmq": more}


def _channel(address: str | None, server: str, messages: list[str], names: tuple[str, ...] = ()) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "address": address,
        "servers": [{"$ref": f"#/servers/{server}"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }
    if names:
        channel["parameters"] = {name: {"description": f"name of the {name} in config.toml"} for name in names}
        channel["x-zmq"] = {"frames": ["topic", "header", "body"], "topic": "the address", "header": _header()}
    else:
        channel["x-zmq"] = {"frames": ["empty, only if the question had it", "body"]}
    return channel


def _header() -> dict[str, Any]:
    """The 48 bytes of a result's header, as a table."""
    offset, fields = 0, []
    for name, code in zip(FIELDS, ("2s", *wire.HEADER.format[3:]), strict=True):
        fields.append({"name": name, "offset": offset, "type": WIDTHS[code[-1]]})
        offset += struct.calcsize(f"<{code}")
    return {
        "bytes": offset,
        "byteOrder": "little endian",
        "fields": fields,
        "magic": wire.MAGIC.decode(),
        "version": wire.VERSION,
        "codec": {"JSON": wire.CODEC_JSON},
        "flags": {str(flag.name): int(flag) for flag in wire.Flag},
        "verdict": {code.name: int(code) for code in wire.VerdictCode},
    }


def _operation(action: str, channel: str, messages: list[str], replies: list[str] | None = None) -> dict[str, Any]:
    def of_channel(names: list[str]) -> dict[str, Any]:
        found = [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names]
        return {"channel": {"$ref": f"#/channels/{channel}"}, "messages": found}

    return {"action": action, **of_channel(messages)} | ({"reply": of_channel(replies)} if replies else {})


def _message(name: str) -> dict[str, Any]:
    about = SCHEMAS[name] if isinstance(SCHEMAS[name], type) else requests  # one of many has no text of its own
    message: dict[str, Any] = {
        "title": "".join(word.title() for word in name.split("_")),
        "summary": (about.__doc__ or "").splitlines()[0],
        "payload": {"schemaFormat": FORMAT, "schema": {"$ref": f"./{name}.schema.json"}},
    }
    if name == "replay_reply":
        message["x-zmq"] = {"followed by": "`count` results of three frames each: topic, header, body"}
    return message


def files() -> dict[str, bytes]:
    """The files that docs/protocol/ must hold, by name."""
    documents = {f"{name}.schema.json": schema_of(name) for name in SCHEMAS} | {"asyncapi.json": asyncapi()}
    return {
        name: msgspec.json.format(msgspec.json.encode(one), indent=1) + b"\n" for name, one in documents.items()
    }


def main() -> None:
    """Writes the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in files().items():
        (FOLDER / name).write_bytes(content)


if __name__ == "__main__":
    main()
