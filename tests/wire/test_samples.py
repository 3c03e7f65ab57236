"""What released versions sent stays readable, and docs/protocol/ is what the code says.

A version that is not released yet may be recorded anew, see tests/wire/samples/README.md.
"""

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from inspectd.runtime.frame import Reason, Verdict
from inspectd.wire import requests
from inspectd.wire import results as wire
from inspectd_train.dev.protocol_files import FOLDER, SCHEMAS, files
from tests.wire.containers import SAMPLES, read_frames
from tests.wire.schemas import faults

VERSIONS = sorted(folder for folder in SAMPLES.iterdir() if folder.is_dir())
CASES = [(folder, path.stem) for folder in VERSIONS for path in sorted(folder.glob("*.bin"))]
each_sample = pytest.mark.parametrize(("folder", "name"), CASES, ids=[f"{f.name}-{name}" for f, name in CASES])


def kind(name: str) -> str:
    """Whose schema the JSON of a sample keeps; empty for what is no query and no request."""
    first, _, rest = name.partition("_")
    if first == "request":
        return "" if rest == "no_verb" else "control_request"
    if first == "told":
        return "control_answer"
    if first == "question":
        return "" if rest == "no_query" else rest.partition("_")[0]
    if first == "answer":
        return "query_error" if rest == "no_query" else f"{rest.partition('_')[0]}_reply"
    return name if name == "heartbeat" else "result"


def expected(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "expected.json").read_text()))


def bodies(folder: Path, name: str) -> list[tuple[str, Any]]:
    """Each JSON of a sample, and whose schema it keeps."""
    one = expected(folder)[name]
    within = [("result", message["body"]) for message in one.get("messages", [])]
    return [(of, body) for of, body in [(kind(name), one["body"]), *within] if of]


def holds(decoded: Any, wanted: Any) -> bool:
    """Whether all that was sent is there still; newer fields may stand beside it."""
    if isinstance(wanted, dict):
        return isinstance(decoded, dict) and all(holds(decoded.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(decoded) == len(wanted) and all(map(holds, decoded, wanted))
    return bool(decoded == wanted)


def check_message(frames: list[bytes], wanted: dict[str, Any]) -> None:
    header = wire.unpack_header(frames[1])
    assert header._asdict().items() <= wanted["header"].items() and frames[0].decode() == wanted["topic"]
    decode = wire.decode_result if frames[0].startswith(b"res/") else wire.decode_heartbeat
    decoded = decode(frames[2])
    assert holds(msgspec.to_builtins(decoded), wanted["body"])
    if isinstance(decoded, wire.Result):
        assert header.verdict.name == decoded.verdict and header.part_id == decoded.part_id


@each_sample
def test_todays_decoder_reads_it(folder: Path, name: str) -> None:
    frames, wanted = read_frames(folder / f"{name}.bin"), expected(folder)[name]
    if "header" in wanted:
        check_message(frames, wanted)
        return
    if kind(name):
        head = msgspec.json.decode(frames[0], type=SCHEMAS[kind(name)])
        assert holds(msgspec.to_builtins(head), wanted["body"])
    else:
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(frames[0], type=wire.Snapshot | wire.Replay | requests.Request)
    assert len(frames) == 1 + 3 * len(wanted["messages"]) == 1 + 3 * wanted["body"].get("count", 0)
    for i, message in enumerate(wanted["messages"]):
        check_message(frames[1 + 3 * i : 4 + 3 * i], message)
        assert message["header"]["flags"] & wire.Flag.REPLAYED


@each_sample
def test_it_keeps_the_schema_of_today_and_of_each_version_beside_it(folder: Path, name: str) -> None:
    """An old message under the new schema; and a new message under the old one, as old readers will hold it."""
    alike = [other for other in VERSIONS if other.name.rstrip("abcdefgh") == folder.name.rstrip("abcdefgh")]
    for schemas in [FOLDER, *(other / "schemas" for other in alike)]:
        for of, body in bodies(folder, name):
            path = schemas / f"{of}.schema.json"
            assert not path.exists() or faults(body, json.loads(path.read_text())) == [], path
    assert all((FOLDER / f"{of}.schema.json").exists() for of, _ in bodies(folder, name))


def test_a_schema_finds_faults() -> None:
    schema = json.loads((FOLDER / "result.schema.json").read_text())
    good = expected(VERSIONS[0])["fail"]["body"]
    region = good["regions"][0]
    for bad in (
        {**good, "part_id": "1"},
        {**good, "part_id": True},
        {**good, "verdict": "pass"},
        {**good, "times": None},
        {**good, "regions": [{**region, "bbox": [1, 2, 3]}]},
        {**good, "regions": [{**region, "contour": [[1, 2.5]]}]},
        {key: value for key, value in good.items() if key != "recipe"},
    ):
        assert len(faults(bad, schema)) >= 1
    question = {"verb": "replay", "id": 1, "epoch": 2, "from": 3}
    schema = json.loads((FOLDER / "replay.schema.json").read_text())
    assert faults(question, schema) == []
    assert faults({**question, "from": -1}, schema) and faults({**question, "more": 1}, schema)
    request = {"verb": "trigger", "id": "1", "client": "me", "camera": "top", "part_ref": "a7"}
    schema = json.loads((FOLDER / "control_request.schema.json").read_text())
    assert faults(request, schema) == []
    for key, bad in (("verb", "fire"), ("id", ""), ("client", "m\ne"), ("part_ref", "x" * 65), ("more", 1)):
        assert faults({**request, key: bad}, schema)


def folder_of(version: int, minor: int) -> str:
    """Name of the folder of a version's samples: 1, 1b, 1c, ..."""
    return f"{version}{'' if minor == wire.FIRST_MINOR else chr(ord('a') + minor - wire.FIRST_MINOR)}"


def test_every_verdict_and_reason_of_this_version_is_recorded() -> None:
    recorded = expected(SAMPLES / folder_of(wire.VERSION, wire.MINOR))
    found = {(one["body"]["verdict"], one["body"]["reason"]) for one in recorded.values() if "header" in one
             and one["header"]["verdict"]}  # fmt: skip
    assert {reason for _, reason in found} == set(Reason) and {verdict for verdict, _ in found} == set(Verdict)
    assert {kind(name) for name in recorded} >= set(SCHEMAS)
    asked = {one["body"]["verb"] for name, one in recorded.items() if kind(name) == "control_request"}
    assert asked == {verb.__struct_config__.tag for verb in get_args(requests.Request)}
    assert recorded["answer_replay_of_ended_epoch"]["body"]["next"] is not None
    assert any(one["header"]["flags"] & wire.Flag.RANGE for one in recorded.values() if "header" in one)
    for folder in VERSIONS:
        assert {path.stem for path in folder.glob("*.bin")} == expected(folder).keys()
        assert sum(path.stat().st_size for path in folder.rglob("*")) < 100_000


def test_the_files_for_machines_are_those_of_the_code() -> None:
    """If not: `python -m inspectd_train.dev.protocol_files`."""
    assert {path.name: path.read_bytes() for path in FOLDER.iterdir()} == files()


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    document = json.loads((FOLDER / "asyncapi.json").read_text())
    seen = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            seen.extend([node["$ref"]] if "$ref" in node else [])
            node = list(node.values())
        for one in node if isinstance(node, list) else []:
            walk(one)

    walk(document)
    for reference in seen:
        if reference.startswith("./"):
            assert (FOLDER / reference).exists()
            continue
        place = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
    assert len(seen) > 20
    fields = document["channels"]["results"]["x-zmq"]["header"]["fields"]
    assert [field["offset"] for field in fields] == [0, 2, 3, 4, 6, 8, 16, 24, 32, 40]
