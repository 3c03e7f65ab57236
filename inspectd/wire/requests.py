"""What may be asked of the daemon on its `control` socket, and its answer; `docs/protocol.md` is the text.

One JSON object in one frame, one JSON object back. Decoded strictly: an unknown verb or key, a wrong type or a
value out of its bounds is a request that nobody executes.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

REF_LENGTH = 64
PLAIN = r"^(?![\s\S]*[\x00-\x1f\x7f-\x9f])"
"""Pattern of text without control characters, as it is shown in logs, states and answers."""
Id = Annotated[str, Meta(min_length=1, max_length=64)]
Text = Annotated[str, Meta(min_length=1, max_length=64, pattern=PLAIN)]
Ref = Annotated[str, Meta(max_length=REF_LENGTH, pattern=PLAIN)]
PartId = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class Base(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb"):
    """What every request has."""

    id: Id
    """Id of the request; one that is sent again under its id is not executed again."""
    client: Text
    """Name of the client; ids are the client's own."""


class Status(Base, frozen=True, tag="status"):
    """How the line is, and what may be selected."""


class SelectRecipe(Base, frozen=True, tag="select_recipe"):
    """Another product."""

    recipe: Annotated[str, Meta(min_length=1, max_length=255, pattern=PLAIN)]
    """Id of one of the config's recipes."""
    from_part_id: PartId | None = None
    """First part of the new product, at each camera; None = from now on."""


class SwapModel(Base, frozen=True, tag="swap_model"):
    """Another model for the recipe in use."""

    model: Annotated[str, Meta(min_length=1, max_length=4096, pattern=PLAIN)]
    """Folder of the bundle, relative to the config's folder."""


class Pause(Base, frozen=True, tag="pause"):
    """Cameras go on, no part is judged."""

    why: Annotated[str, Meta(max_length=200, pattern=PLAIN)] = ""


class Resume(Base, frozen=True, tag="resume"):
    """End every hold: go on with the recipe and model that are in use."""


class Trigger(Base, frozen=True, tag="trigger"):
    """Send one software trigger."""

    camera: Annotated[str, Meta(min_length=1, max_length=64)]
    part_ref: Ref = ""
    """Whatever identifies the part elsewhere; it comes back in the part's result."""


class ResetCounters(Base, frozen=True, tag="reset_counters"):
    """The books begin anew."""


Request = Status | SelectRecipe | SwapModel | Pause | Resume | Trigger | ResetCounters


class Answer(Struct, frozen=True, omit_defaults=True):
    """Exactly one for each request."""

    id: str | None
    """Id of the request; null where it had none that could be read."""
    ok: bool
    result: dict[str, Any] | None = None
    error: str = ""
    """What was wrong, in one sentence; only where `ok` is false."""


class _Signed(Struct):
    id: Id


class RequestError(ValueError):
    """A frame that holds no request; `id` is the request's where it has one, else None."""

    def __init__(self, sentence: str, request_id: str | None) -> None:
        super().__init__(sentence)
        self.id = request_id


encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_decode_signed = msgspec.json.Decoder(_Signed).decode
_decode_answer = msgspec.json.Decoder(Answer).decode
BROKEN = msgspec.DecodeError, UnicodeDecodeError, RecursionError


def decode_request(body: bytes) -> Request:
    """Decode the request in a frame; raises RequestError, and nothing else whatever the frame holds."""
    try:
        return _decoder.decode(body)
    except BROKEN as error:
        sentence = f"not a request: {error}"
    try:
        raise RequestError(sentence, _decode_signed(body).id)
    except BROKEN:
        raise RequestError(sentence, None) from None


def decode_answer(body: bytes) -> Answer:
    """Decode an answer of the daemon; raises ValueError if it is none."""
    try:
        return _decode_answer(body)
    except BROKEN as error:
        raise ValueError(f"not an answer: {error}") from None
