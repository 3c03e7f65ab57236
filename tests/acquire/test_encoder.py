"""Part ids out of an encoder's values."""

from hypothesis import given
from hypothesis import strategies as st

from inspectd.acquire.encoder import LEAP, Encoder


def read(*values: int, before: int = 0) -> list[int | str]:
    """What each value becomes; a part whose value is doubted takes the next number."""
    encoder, found = Encoder(), []
    for value in values:
        found.append(encoder.part_id(value, before))
        before = found[-1] if isinstance(found[-1], int) else before + 1
    return found


def test_values_that_grow_are_part_ids() -> None:
    assert read(100, 200, 350) == [100, 200, 350]


def test_one_false_value_shifts_none_that_follows() -> None:
    assert read(100, 200, 3, 400, 500) == [100, 200, "the encoder stepped back", 400, 500]
    far = 200 + 100 * LEAP + 1
    assert read(100, 200, far, 400, 500) == [100, 200, "the encoder leapt", 400, 500]


def test_an_encoder_that_began_again_is_believed_when_two_values_agree() -> None:
    assert read(100, 200, 0, 100, 200) == [100, 200, "the encoder stepped back", 301, 401]


def test_a_value_far_ahead_is_believed_when_the_next_one_follows_on_it() -> None:
    far = 10**9
    assert read(100, 200, far, far + 100) == [100, 200, "the encoder leapt", far + 100]


def test_a_first_value_that_is_wild_is_doubted() -> None:
    assert read(2**60, 100, 200) == ["the encoder leapt", 100, 200]
    assert read(100, 2**60, 200) == [100, "the encoder leapt", 200]


@given(st.lists(st.integers(1, 10**6) | st.integers(1, 2**40), max_size=40), st.integers(0, 10**6))
def test_part_ids_only_grow(values: list[int], before: int) -> None:
    encoder = Encoder()
    for value in values:
        found = encoder.part_id(value, before)
        assert isinstance(found, str) or found > before
        before = found if isinstance(found, int) else before + 1
