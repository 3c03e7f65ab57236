"""The wire contract: its bytes never change by accident."""

import itertools
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.runtime.frame import Reason, Region, Verdict
from inspectd.wire.results import (
    MINOR,
    Flag,
    Header,
    Heartbeat,
    ImageRef,
    ModelRef,
    RecipeRef,
    Result,
    Times,
    VerdictCode,
    WireError,
    decode_heartbeat,
    decode_result,
    encode,
    heartbeat_topic,
    result_topic,
    unpack_header,
)
from tests.makers import examples, region

U64 = st.integers(0, 2**64 - 1)
HEADERS = st.builds(
    Header, st.integers(0, 2**16 - 1).map(Flag), st.sampled_from(list(VerdictCode)), U64, U64, U64, U64, U64
)
RESULT = Result(
    line="line1", camera="top", part_id=7, frame_id=3, verdict=Verdict.FAIL, reason=Reason.DEFECT, simulated=True,
    regions=(region(),), recipe=RecipeRef("screw", "0123456789ab"), model=ModelRef("screw", "f" * 64),
    image=ImageRef(2, 8), times=Times(1_700_000_000_000_000_000, 100.5, 900.0, 950.0, 1000.0, 50_000.0),
)  # fmt: skip


def test_the_48_bytes_of_a_header() -> None:
    header = Header(
        Flag.SIMULATED | Flag.REPLAYED, VerdictCode.PASS, 0x0102030405060708, 0x1112131415161718, 0x21, 0x31, 0x41
    )
    assert header.pack() == bytes.fromhex(
        "494e 01 00 0500 5aa5 0807060504030201 18171615141312112100000000000000 3100000000000000 4100000000000000"
    )


def test_the_codes_and_flags() -> None:
    assert {code.name: int(code) for code in VerdictCode} == {
        "NONE": 0, "PASS": 0xA55A, "FAIL": 0x5AA5, "UNKNOWN": 0x3CC3,
    }  # fmt: skip
    assert [int(flag) for flag in Flag] == [1, 2, 4, 8, 16]
    assert {verdict.name for verdict in Verdict} == {code.name for code in VerdictCode} - {"NONE"}


def test_any_two_codes_differ_in_at_least_8_bits() -> None:
    for a, b in itertools.combinations([*VerdictCode, 0xFFFF], 2):  # 0xFFFF: erased memory
        assert (a ^ b).bit_count() >= 8


@examples(100)
@given(HEADERS)
def test_a_header_comes_back_as_it_was(header: Header) -> None:
    assert len(header.pack()) == 48
    assert unpack_header(header.pack()) == header


@pytest.mark.parametrize(
    ("at", "byte", "said"),
    [
        (0, 0x00, "a header begins with b'IN', this one with"),
        (2, 2, "header version 2, codec 0: this client reads 1 and 0"),
        (3, 1, "header version 1, codec 1"),
        (6, 0x5B, "verdict code 0xa55b is none of this protocol"),
    ],
)
def test_a_header_that_is_not_of_this_version(at: int, byte: int, said: str) -> None:
    data = bytearray(Header(Flag(0), VerdictCode.PASS, 1, 2, 3, 4, 5).pack())
    data[at] = byte
    with pytest.raises(WireError, match=said):
        unpack_header(bytes(data))


@pytest.mark.parametrize("size", [0, 1, 47, 49])
def test_a_header_of_another_size(size: int) -> None:
    with pytest.raises(WireError, match=f"a header has 48 bytes, this one {size}"):
        unpack_header(bytes(size))


@examples(200)
@given(st.binary(max_size=64) | st.binary(min_size=48, max_size=48).map(lambda b: b"IN\x01\x00" + b[4:]))
def test_random_bytes_as_a_header_raise_nothing_else(data: bytes) -> None:
    try:
        unpack_header(data)
    except WireError:
        pass


def garbage() -> st.SearchStrategy[bytes]:
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    )
    whole = encode(RESULT)
    fields = list(json.loads(whole))
    swapped = st.dictionaries(st.sampled_from(fields), values, min_size=1, max_size=2).map(
        lambda d: json.dumps(json.loads(whole) | d).encode()
    )
    cut = st.integers(0, len(whole) - 1).map(lambda n: whole[:n])
    return st.binary(max_size=50) | swapped | cut


@examples(250)
@given(garbage())
def test_random_bodies_raise_nothing_else(body: bytes) -> None:
    for decode in (decode_result, decode_heartbeat):
        try:
            decode(body)
        except WireError:
            pass


def test_a_body_nested_too_deeply() -> None:
    try:
        decode_result(b'{"x":' + b"[" * 100_000)
    except WireError:
        pass
    except RecursionError:
        pytest.fail("RecursionError", pytrace=False)


def test_a_body_of_a_later_version_is_read() -> None:
    later = json.loads(encode(RESULT)) | {"operator": "jo", "views": [1, 2]}
    later["times"]["gateway_us"] = 1
    later["regions"][0]["depth_mm"] = 0.1
    assert decode_result(json.dumps(later).encode()) == RESULT


def test_a_body_without_a_needed_field_is_refused() -> None:
    for field in ("verdict", "reason", "part_id", "simulated", "times"):
        body = json.loads(encode(RESULT))
        del body[field]
        with pytest.raises(WireError, match=f"not a result: .*{field}"):
            decode_result(json.dumps(body).encode())


def test_the_body_of_a_result() -> None:
    body = json.loads(encode(RESULT))
    assert body["schema"] == 1
    assert (body["kind"], body["verdict"], body["reason"]) == ("view", "FAIL", "defect")
    assert body["regions"][0]["class"] == "spot"
    assert body["image"] == {"slot": 2, "generation": 8}
    assert decode_result(encode(RESULT)) == RESULT


def test_a_range_of_parts() -> None:
    lost = {"verdict": Verdict.UNKNOWN, "reason": Reason.LOST, "regions": (), "image": None}
    one = msgspec.structs.replace(RESULT, last_part_id=1006, **lost)
    assert (one.part_id, one.last_part_id, one.parts) == (7, 1006, 1000)
    assert json.loads(encode(one))["last_part_id"] == 1006
    assert decode_result(encode(one)) == one


def test_the_result_of_one_part_is_what_it_was_before_there_were_ranges() -> None:
    assert "last_part_id" not in json.loads(encode(RESULT))
    assert RESULT.parts == 1 and not RESULT.last_part_id
    assert decode_result(encode(RESULT)).parts == 1


@pytest.mark.parametrize("last", [6, 0, -1])
def test_a_range_that_ends_before_it_begins_is_no_result(last: int) -> None:
    body = json.loads(encode(RESULT)) | {"last_part_id": last}
    with pytest.raises(WireError, match=f"not a result: its parts end at {last} and begin at 7"):
        decode_result(json.dumps(body).encode())


def test_a_daemon_that_names_no_minor_version_has_the_first() -> None:
    beat = Heartbeat(
        line="line1", state="Halted", detail="", last_seq=1, recipe=RESULT.recipe, model=RESULT.model, engine="x",
        cameras={}, journal="ok", version="0", minor=MINOR,
    )  # fmt: skip
    body = json.loads(encode(beat))
    assert decode_heartbeat(encode(beat)).minor == body.pop("minor") == 2
    assert decode_heartbeat(json.dumps(body).encode()).minor == 1


@examples(50)
@given(
    st.builds(
        Region, class_=st.text(), score=st.floats(0, 1), mean_score=st.floats(0, 1),
        bbox=st.tuples(*[st.integers(0, 65536)] * 4), centroid=st.tuples(st.floats(0, 65536), st.floats(0, 65536)),
        area_px=st.floats(0, 1e9), length_px=st.floats(0, 1e5),
        contour=st.lists(st.tuples(st.integers(0, 65536), st.integers(0, 65536)), max_size=4), zone=st.text(),
        area_mm2=st.none() | st.floats(0, 1e9),
    )
)  # fmt: skip
def test_a_result_comes_back_as_it_was(one: Region) -> None:
    result = msgspec.structs.replace(RESULT, regions=(one,), detail=one.class_)
    assert decode_result(encode(result)) == result


def test_a_heartbeat_is_no_result_and_a_result_no_heartbeat() -> None:
    beat = Heartbeat(
        line="line1", state="Halted", detail="", last_seq=1, recipe=RESULT.recipe, model=RESULT.model, engine="x",
        cameras={}, journal="ok", version="0",
    )  # fmt: skip
    assert decode_heartbeat(encode(beat)) == beat
    with pytest.raises(WireError):
        decode_result(encode(beat))
    with pytest.raises(WireError):
        decode_heartbeat(encode(RESULT))


def test_a_topic_is_no_prefix_of_another_lines() -> None:
    assert result_topic("line1", "top") == b"res/line1/top/"
    assert heartbeat_topic("line1") == b"hb/line1/"
    assert not result_topic("line10", "top").startswith(b"res/line1/")
