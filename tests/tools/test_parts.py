import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inspectd_train.data.dataset import DONT_CARE, Sample
from inspectd_train.data.parts import MARGIN_PX, as_parts, find_crops, shown

WIDTH_PX, HEIGHT_PX = 160, 128


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pits=st.integers(0, 6))
def test_no_defect_is_cut_and_clean_crops_keep_their_distance(seed: int, pits: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((260, 600), np.uint8)
    for _ in range(pits):
        centre = (int(rng.integers(600)), int(rng.integers(260)))
        cv2.circle(mask, centre, int(rng.integers(2, 40)), (1,), -1)
    for crop in find_crops(mask, (WIDTH_PX, HEIGHT_PX), 2, 2, rng):
        x, y, w, h = crop.box
        assert (w, h) == (WIDTH_PX, HEIGHT_PX)
        assert 0 <= x <= 600 - w
        assert 0 <= y <= 260 - h
        if crop.defects:
            inside = np.zeros_like(mask)
            inside[y : y + h, x : x + w] = 1
            count, labels = cv2.connectedComponents(mask)
            touched = [k for k in range(1, count) if inside[labels == k].any()]
            assert len(touched) == len(crop.defects) >= 1
            assert all(inside[labels == k].all() for k in touched)
        else:
            margin = MARGIN_PX
            assert not mask[max(y - margin, 0) : y + h + margin, max(x - margin, 0) : x + w + margin].any()


def picture(height: int, width: int) -> Sample:
    mask = np.zeros((height, width), np.uint8)
    mask[100:110, 100:110] = 2
    mask[200:210, 100:110] = DONT_CARE
    return Sample("a.png", np.arange(height * width, dtype=np.uint8).reshape(height, width, 1), mask)


def test_a_picture_is_a_part_of_its_own() -> None:
    whole = picture(300, 400)
    assert as_parts([whole], None) == [whole]
    assert shown(whole) == {1}


def test_crops_are_named_by_their_place_and_hold_its_pixels() -> None:
    whole = picture(300, 700)
    crops = as_parts([whole], (128, 96))
    assert {bool(shown(crop)) for crop in crops} == {True, False}
    for crop in crops:
        x, y = (int(word) for word in crop.name.removeprefix("a.png@").split(","))
        assert np.array_equal(crop.image, whole.image[y : y + 96, x : x + 128])
        assert np.array_equal(crop.mask, whole.mask[y : y + 96, x : x + 128])
    assert [c.name for c in as_parts([whole], (128, 96))] == [c.name for c in crops]


def test_pictures_smaller_than_a_part_give_none() -> None:
    assert as_parts([picture(300, 400)], (401, 300)) == []


def test_what_is_dont_care_alone_makes_no_part() -> None:
    mask = np.zeros((300, 700), np.uint8)
    mask[140:160, 340:360] = DONT_CARE
    crops = find_crops(mask, (WIDTH_PX, HEIGHT_PX), 3, 2, np.random.default_rng(0))
    assert len(crops) == 3
    assert not any(crop.defects for crop in crops)


def test_a_picture_of_which_nothing_is_known_is_no_part() -> None:
    unknown = Sample("a.png", np.zeros((80, 80, 1), np.uint8), np.full((80, 80), DONT_CARE, np.uint8))
    assert as_parts([unknown], None) == []
    unknown.mask[0, 0] = 0
    assert as_parts([unknown], None) == [unknown]
