"""The control socket: one answer for each request, whatever else comes in."""

import json
import os
import random
import resource
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from inspectd.publish.control import (
    CLIENTS,
    ENVELOPES,
    OUTSTANDING,
    REMEMBERED,
    Answered,
    Asked,
    ControlCounts,
    ControlLink,
    ControlService,
    limit_queues,
)
from inspectd.publish.sockets import MAX_INCOMING, opened
from inspectd.runtime.handoff import Handoff
from inspectd.wire.requests import Answer, RequestError, decode_request


class Control:
    """The service on a real socket, turned by hand; and clients of it."""

    def __init__(self, folder: Path) -> None:
        self.context = zmq.Context()
        self.endpoint = f"ipc://{folder}/control"
        self.requests: Handoff[Asked] = Handoff()
        self.answers: Handoff[Answered] = Handoff()
        self._undo = ExitStack()
        router = opened(self.context, zmq.ROUTER, self.endpoint, self._undo)
        limit_queues(router)
        router.bind(self.endpoint)
        self.counts = ControlCounts()
        self.service = ControlService(router, ControlLink(self.requests, self.answers, self.counts))
        self._clients: list[Any] = []

    def client(self, kind: int = zmq.DEALER) -> Any:
        socket = self.context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 5000)
        socket.connect(self.endpoint)
        self._clients.append(socket)
        return socket

    def turn(self, taken: int = 0) -> list[Asked]:
        """Serve until nothing is left, and so many requests were taken; what was handed to the main thread."""
        router, answers = self.service.sockets()
        poller = zmq.Poller()
        poller.register(router, zmq.POLLIN)
        poller.register(answers, zmq.POLLIN)
        while poller.poll(100) or self.service.busy or self.counts.requests < taken:
            while self.service.serve():
                pass
        return list(self.requests.drain())

    def close(self) -> None:
        self.service.close()
        self._undo.close()
        for client in self._clients:
            client.close()
        self.context.term()
        self.requests.close()
        self.answers.close()


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    made = Control(tmp_path)
    yield made
    made.close()


def status(request_id: str = "1", client: str = "me", **more: Any) -> bytes:
    return json.dumps({"id": request_id, "client": client, "verb": "status", **more}).encode()


def trigger(request_id: str) -> bytes:
    return json.dumps({"id": request_id, "client": "me", "verb": "trigger", "camera": "top"}).encode()


def done(asked: Asked, **result: Any) -> Answered:
    return Answered(asked, Answer(asked.request.id, True, result))


def answers_of(client: Any) -> list[dict[str, Any]]:
    found = []
    while client.poll(100):
        found.append(json.loads(client.recv_multipart()[-1]))
    return found


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.REQ])
def test_a_request_gets_its_answer_in_its_envelope(control: Control, kind: int) -> None:
    client = control.client(kind)
    client.send(status("7"))
    (asked,) = control.turn()
    assert asked.client == ("", "me") and type(asked.request).__name__ == "Status"
    control.answers.put(done(asked, state="Ready"))
    control.turn()
    assert client.recv_multipart() == [b'{"id":"7","ok":true,"result":{"state":"Ready"}}']


def test_a_repeated_id_before_the_answer_gets_the_one_answer_too(control: Control) -> None:
    first, again = control.client(), control.client()
    first.send(status())
    (asked,) = control.turn()
    again.send(status())
    first.send(status())
    assert control.turn() == []
    control.answers.put(done(asked))
    control.turn()
    assert len(answers_of(first)) == 2 and len(answers_of(again)) == 1


def test_a_repeated_id_after_the_answer_is_answered_from_memory(control: Control) -> None:
    first, again, other = control.client(), control.client(), control.client()
    first.send(status())
    (asked,) = control.turn()
    control.answers.put(done(asked, n=1))
    control.turn()
    again.send(status())
    assert control.turn() == [] and answers_of(again) == answers_of(first)
    other.send(status(client="somebody else"))
    assert len(control.turn()) == 1


def test_the_last_256_ids_of_a_client_are_remembered(control: Control) -> None:
    client = control.client()
    for n in range(REMEMBERED + 1):
        client.send(status(str(n)))
        (asked,) = control.turn() if n % 50 == 0 else _one(control)
        control.answers.put(done(asked))
    control.turn()
    assert len(answers_of(client)) == REMEMBERED + 1
    client.send(status("1"))
    assert control.turn() == []
    client.send(status("0"))
    assert len(control.turn()) == 1


def _one(control: Control) -> list[Asked]:
    while not len(control.requests):
        control.service.serve()
    return list(control.requests.drain())


def test_an_id_of_another_request_is_refused(control: Control) -> None:
    client = control.client()
    client.send(status())
    control.turn()
    client.send(json.dumps({"id": "1", "client": "me", "verb": "resume"}).encode())
    assert control.turn() == []
    (answer,) = answers_of(client)
    assert not answer["ok"] and "another request's" in answer["error"]


def test_beyond_so_many_outstanding_the_answer_is_busy(control: Control) -> None:
    client = control.client()
    for n in range(OUTSTANDING + 3):
        client.send(trigger(str(n)))
    asked = control.turn(OUTSTANDING + 3)
    assert len(asked) == OUTSTANDING
    busy = answers_of(client)
    assert [a["id"] for a in busy] == [str(OUTSTANDING + n) for n in range(3)]
    assert all("busy" in a["error"] for a in busy)
    for _ in range(ENVELOPES + 1):
        client.send(trigger("0"))
    control.turn(OUTSTANDING + 3 + ENVELOPES + 1)
    assert ["busy" in a["error"] for a in answers_of(client)] == [True, True]
    for one in asked:
        control.answers.put(done(one))
    control.turn()
    assert len(answers_of(client)) == OUTSTANDING + ENVELOPES - 1
    client.send(trigger(str(OUTSTANDING)))  # busy was no answer to remember
    assert len(control.turn()) == 1


def test_triggers_that_wait_hold_up_nothing_else(control: Control) -> None:
    client = control.client()
    for n in range(OUTSTANDING):
        client.send(trigger(str(n)))
    triggers = control.turn(OUTSTANDING)
    for n, verb in enumerate(["status", "pause", "resume", "reset_counters"] * 2):
        client.send(json.dumps({"id": f"x{n}", "client": "me", "verb": verb}).encode())
    others = control.turn(OUTSTANDING + 8)
    assert [asked.request.id for asked in others] == [f"x{n}" for n in range(8)]
    for one in [*others, *triggers]:
        control.answers.put(done(one))
    control.turn()
    answers = answers_of(client)
    assert len(answers) == OUTSTANDING + 8 and all(answer["ok"] for answer in answers)
    assert control.counts.busy == control.service._outstanding.total() == 0


def test_the_memory_of_clients_is_bounded(control: Control) -> None:
    client = control.client()
    for n in range(2 * CLIENTS):
        client.send(status(client=f"client {n}"))
        (asked,) = _one(control)
        control.answers.put(done(asked))
        while control.service.serve():
            pass
    assert len(control.service._clients) == CLIENTS
    for n in range(40):
        client.send(status(str(n), client="talks much"))
        (asked,) = _one(control)
        control.answers.put(done(asked, text="x" * 2**20))
        while control.service.serve():
            pass
    assert control.service._bytes <= 9 * 2**20


def test_a_peer_that_vanished_is_counted(control: Control) -> None:
    client = control.client()
    client.send(status())
    (asked,) = control.turn()
    client.close()
    control.turn()
    control.answers.put(done(asked))
    control.turn()
    assert control.counts.unheard == 1


def test_the_end_answers_whoever_still_waits(control: Control) -> None:
    client = control.client()
    client.send(status())
    control.turn()
    control.service.close()
    (answer,) = answers_of(client)
    assert not answer["ok"] and "the daemon ends" in answer["error"]


PAUSE = {"id": "1", "client": "me", "verb": "pause"}
TRIGGER = {"id": "1", "client": "me", "verb": "trigger"}
SELECT = {"id": "1", "client": "me", "verb": "select_recipe", "recipe": "a"}
WRONG: list[Any] = [
    {},
    [],
    None,
    {"id": "1", "client": "me"},
    {"id": "1", "client": "me", "verb": "halt"},
    {"id": "1", "verb": "status"},
    {"id": 1, "client": "me", "verb": "status"},
    {"id": "", "client": "me", "verb": "status"},
    {"id": "1" * 65, "client": "me", "verb": "status"},
    {"id": "1", "client": "m" * 65, "verb": "status"},
    PAUSE | {"why": 3},
    PAUSE | {"why": "w" * 201},
    PAUSE | {"because": "no"},
    PAUSE | {"why": "x\nMAINPID=1"},
    PAUSE | {"why": "x\n"},
    PAUSE | {"client": "m\x1b[2J"},
    TRIGGER | {"part_ref": "x"},
    TRIGGER | {"camera": ["top"]},
    TRIGGER | {"camera": "top", "part_ref": "x" * 65},
    TRIGGER | {"camera": "top", "part_ref": "x\0"},
    SELECT | {"recipe": "a\x85"},
    SELECT | {"from_part_id": -1},
    SELECT | {"from_part_id": 1e300},
    SELECT | {"from_part_id": 2**64},
    SELECT | {"from_part_id": True},
    SELECT | {"from_part_id": float("nan")},
]


@pytest.mark.parametrize("request_", WRONG, ids=json.dumps)
def test_what_is_no_request_is_refused_in_a_sentence(control: Control, request_: Any) -> None:
    client = control.client()
    client.send(json.dumps(request_).encode())
    assert control.turn() == []
    (answer,) = answers_of(client)
    signed = isinstance(request_, dict) and request_.get("id") == "1" and "NaN" not in json.dumps(request_)
    assert answer["id"] == ("1" if signed else None) and not answer["ok"]
    assert answer["error"].startswith("not a request: ") and "\n" not in answer["error"]
    assert control.counts.refused == 1


def test_a_control_character_is_refused_in_words(control: Control) -> None:
    client = control.client()
    for key, request_ in [("why", PAUSE), ("client", PAUSE), ("part_ref", TRIGGER | {"camera": "top"})]:
        client.send(json.dumps(request_ | {key: "a\nb"}).encode())
        control.turn()
        assert [a["error"] for a in answers_of(client)] == [f"not a request: {key} has control characters"]


@pytest.mark.parametrize("frames", [[b""], [b"", b""], [b"", b"", b"x"], [status(), status()], [b"x"] * 500])
def test_other_frames_than_one_are_refused_with_one_answer(control: Control, frames: list[bytes]) -> None:
    client = control.client()
    client.send_multipart(frames)
    client.send(status())
    assert len(control.turn()) == 1
    (answer,) = answers_of(client)
    assert "not a request" in answer["error"] and control.counts.refused == 1


def test_a_message_of_very_many_frames_is_skipped_in_bounded_steps(control: Control) -> None:
    client = control.client()
    client.send_multipart([b"x"] * 10_000)
    steps = 0
    while control.counts.refused == 0 or control.service.busy:
        control.service.serve()
        steps += 1
    assert steps > 100
    client.send(status())
    assert len(control.turn()) == 1


def test_a_huge_frame_ends_the_connection_and_nothing_else(control: Control) -> None:
    other, hostile = control.client(), control.client()
    hostile.send(b" " * (MAX_INCOMING + 1))
    hostile.send(status())
    control.turn()
    other.send(status("2"))
    assert "2" in [a.request.id for a in control.turn()]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
KEYS = st.sampled_from(
    ["id", "client", "verb", "recipe", "from_part_id", "model", "why", "camera", "part_ref", "x"]
)
VERBS = st.sampled_from(["status", "select_recipe", "swap_model", "pause", "resume", "trigger", "reset_counters"])


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(KEYS, JSON | VERBS, max_size=8) | JSON)
def test_any_json_is_a_request_of_this_protocol_or_refused(thing: Any) -> None:
    body = json.dumps(thing).encode("utf-8", "surrogatepass")
    try:
        request = decode_request(body)
    except RequestError:
        return
    kept = {k: v for k, v in thing.items() if v not in (None, "")}
    told = {k: v for k, v in msgspec.to_builtins(request).items() if v not in (None, "")}
    assert kept == told


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        decode_request(body)


def hostile(rng: random.Random) -> list[bytes]:
    """One message that must have no effect."""
    kind = rng.randrange(6)
    if kind == 0:
        return [rng.randbytes(rng.randrange(300)) for _ in range(rng.randrange(1, 6))]
    if kind == 1:
        return [b'{"id":' + b"[" * rng.randrange(30_000)]
    if kind == 2:
        good = bytearray(json.dumps(PAUSE).encode())
        good[rng.randrange(len(good) - 1)] ^= 0x80  # no longer UTF-8
        return [bytes(good)]
    if kind == 3:
        return [json.dumps(rng.choice(WRONG)).encode()]
    if kind == 4:
        return [json.dumps(PAUSE).encode()[: rng.randrange(1, 40)]]
    return [b" " * rng.randrange(MAX_INCOMING)] if rng.random() < 0.02 else [b'{"id":"1","verb":"\xff"}']


def check_hostile(control: Control, messages: int, seed: int) -> None:
    rng, client = random.Random(seed), control.client()
    counts, peak_kib = control.counts, 0
    for n in range(messages):
        client.send_multipart(hostile(rng))
        if n % 32 == 31:
            while counts.refused <= n:  # none more is sent before: one thread plays both ends
                control.service.serve()
            while client.poll(0):
                assert json.loads(client.recv_multipart()[-1])["ok"] is False
        if n == messages // 5:
            peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while counts.refused < messages:
        control.service.serve()
    assert control.turn() == []
    assert (counts.requests, counts.refused) == (0, messages), (seed, counts)
    assert len(control.service._clients) == 0 and len(control.requests) == 0
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib
    print(f"{messages} hostile messages, seed {seed}: {grown_kib} KiB more at the peak", file=sys.stderr)
    assert grown_kib < 16_384


def test_hostile_messages_have_no_effect(control: Control) -> None:
    check_hostile(control, 5000, seed=7)


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_a_million_hostile_messages_have_no_effect(control: Control) -> None:
    check_hostile(control, 1_000_000, seed=int.from_bytes(os.urandom(4), "little"))
