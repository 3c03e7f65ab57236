import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inspectd_train.measure import metrics

samples = st.lists(st.tuples(st.integers(0, 255), st.booleans()), min_size=1, max_size=60)
maps = arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 255))
masks = arrays(np.uint8, (5, 6), elements=st.sampled_from([0, 1, 2, 255]))


def counts_of(found: list[tuple[int, bool]]) -> metrics.Histogram:
    scores = np.array([score for score, _ in found], np.uint8)
    truth = np.array([is_defect for _, is_defect in found], bool)
    return metrics.histogram(scores, truth, np.ones(len(found), bool))


@given(samples)
def test_auroc_is_the_share_of_pairs_in_order(found: list[tuple[int, bool]]) -> None:
    bad = [score for score, is_defect in found if is_defect]
    clean = [score for score, is_defect in found if not is_defect]
    pairs = [(b > c) + 0.5 * (b == c) for b in bad for c in clean]
    assert metrics.auroc(counts_of(found)) == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)


@given(samples)
def test_average_precision_follows_its_definition(found: list[tuple[int, bool]]) -> None:
    defects, before, area = sum(is_defect for _, is_defect in found), 0.0, 0.0
    for level in sorted({score for score, _ in found}, reverse=True):
        called = [is_defect for score, is_defect in found if score >= level]
        recall = sum(called) / max(defects, 1)
        area, before = area + (recall - before) * sum(called) / len(called), recall
    assert metrics.average_precision(counts_of(found)) == (pytest.approx(area) if defects else None)


@given(samples, st.sampled_from([0.0, 0.01, 0.05, 0.5, 1.0]))
def test_escapes_are_read_at_thresholds_that_exist(found: list[tuple[int, bool]], most: float) -> None:
    bad = [score for score, is_defect in found if is_defect]
    clean = [score for score, is_defect in found if not is_defect]
    reached = [
        sum(b < level for b in bad) / len(bad)
        for level in range(257)
        if bad and clean and sum(c >= level for c in clean) <= most * len(clean)
    ]
    escape = metrics.escape_at_overkill(counts_of(found), most)
    assert escape == (pytest.approx(min(reached)) if reached else None)


@given(samples)
def test_curves_hold_the_points_of_every_threshold(found: list[tuple[int, bool]]) -> None:
    bad = [score for score, is_defect in found if is_defect]
    clean = [score for score, is_defect in found if not is_defect]
    points = metrics.precision_recall(counts_of(found))
    if bad:
        called = [[d for s, d in found if s >= level] for level in range(256)]
        wanted = {(round(sum(c) / len(bad), 9), round(sum(c) / len(c), 9)) for c in called if c}
        assert {(round(r, 9), round(p, 9)) for r, p in points} == wanted
    else:
        assert points == []
    assert bool(metrics.roc(counts_of(found))) == bool(bad and clean)


def test_figures_at_a_threshold() -> None:
    counts = counts_of([(200, True), (200, True), (10, True), (200, False), (10, False)])
    assert metrics.at_threshold(counts, 100) == pytest.approx(
        {"iou": 0.5, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3}
    )
    assert metrics.at_threshold(counts, 10)["f1"] == pytest.approx(0.75)
    assert metrics.best_f1_level(counts) == 1


@given(maps, st.tuples(st.integers(1, 255), st.integers(1, 255)))
def test_class_map_takes_the_class_farthest_above_its_level(scores: np.ndarray, levels: tuple[int, int]) -> None:
    found = metrics.class_map(scores, list(levels))
    for y, x in np.ndindex(found.shape):
        first, second = (int(scores[k, y, x]) * levels[1 - k] for k in (0, 1))  # score / level, without division
        above = [scores[k, y, x] >= levels[k] for k in (0, 1)]
        assert found[y, x] == (0 if not any(above) else 1 if first >= second else 2)


@given(masks, arrays(np.uint8, (5, 6), elements=st.integers(0, 2)))
def test_confusion_counts_pixels_that_matter(truth: np.ndarray, found: np.ndarray) -> None:
    matrix = metrics.confusion(truth, found, truth != 255, 2)
    for i in range(3):
        for j in range(3):
            assert matrix[i, j] == ((truth == i) & (found == j)).sum()
        union = (((truth == i) | (found == i)) & (truth != 255)).sum()
        hits = ((truth == i) & (found == i)).sum()
        iou, f1 = metrics.iou_and_f1(matrix, i)
        if not union:
            assert iou is f1 is None
        else:
            assert (iou, f1) == pytest.approx((hits / union, 2 * hits / (union + hits)))


@pytest.mark.parametrize("shape", [(12, 16), (11, 13), (9, 16)])
def test_full_resolution_puts_cell_centres_in_the_middle_of_their_pixels(shape: tuple[int, int]) -> None:
    scores = np.array([[[0, 80, 160, 240]] * 3], np.uint8)
    fine = metrics.full_resolution(scores, 4, shape)
    assert fine.shape == (1, *shape)
    # between the centres at 1.5, 5.5, 9.5 px the score rises by 20 a pixel
    assert fine[0, 0, 2:10].tolist() == [10, 30, 50, 70, 90, 110, 130, 150]
    assert fine[0, 0, :2].tolist() == [0, 0]


def test_wilson_of_known_proportions() -> None:
    assert metrics.wilson(0, 0) == (0.0, 1.0)
    assert metrics.wilson(0, 144) == pytest.approx((0.0, 0.02598), abs=1e-4)
    assert metrics.wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
