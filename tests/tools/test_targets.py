import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspectd_train.data.dataset import DONT_CARE
from inspectd_train.net.targets import cell_fractions, cell_targets, small_defect_weights

MASKS = st.tuples(st.integers(64, 90), st.integers(64, 90), st.sampled_from([1, 4, 8]), st.integers(0, 2**32 - 1))


def test_fractions_are_areas_and_leave_out_what_nobody_cares_for() -> None:
    mask = np.zeros((5, 8), np.uint8)
    mask[0:2, 0:4] = 1
    mask[0:4, 4:6] = DONT_CARE
    share, care = cell_fractions(mask, 1, stride=4)
    assert share.tolist() == [[[0.5, 0.0], [0.0, 0.0]]]
    assert care.tolist() == [[1.0, 0.5], [0.25, 0.25]]


@settings(max_examples=30, deadline=None)
@given(MASKS)
def test_shares_of_a_cell_add_up_to_what_is_cared_for(drawn: tuple[int, int, int, int]) -> None:
    height, width, stride, seed = drawn
    mask = np.random.default_rng(seed).choice([0, 0, 0, 1, 2, DONT_CARE], (height, width)).astype(np.uint8)
    padded = np.pad(mask, ((0, -height % stride), (0, -width % stride)), constant_values=DONT_CARE)
    blocks = padded.reshape(padded.shape[0] // stride, stride, -1, stride)
    for target in ("coverage", "presence"):
        labels, care = cell_targets(mask, 2, stride, target)  # type: ignore[arg-type]
        assert np.allclose(care, (blocks != DONT_CARE).mean((1, 3)), atol=1e-6)
        assert np.allclose(labels.sum(0), care, atol=1e-5)
        assert labels.min() >= -1e-6
    assert np.allclose(cell_fractions(mask, 2, stride)[0][1], (blocks == 2).mean((1, 3)), atol=1e-6)


def test_a_scratch_of_one_pixel_is_a_quarter_of_coverage_but_full_presence() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 33] = 1
    assert cell_targets(mask, 1, 4, "coverage")[0][1, :, 8].tolist() == [0.25] * 16
    assert cell_targets(mask, 1, 4, "presence")[0][1, :, 8].tolist() == pytest.approx([1.0] * 16)


def test_small_defects_weigh_more() -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[0:8, 0:8] = 1
    mask[40:100, 40:100] = 1
    mask[120:128, 120:128] = DONT_CARE
    weights = small_defect_weights(mask, stride=4)
    assert weights[0, 0] == 4.0
    assert weights[15, 15] == weights[30, 2] == weights[31, 31] == 1.0
