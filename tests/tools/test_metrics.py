import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools import metrics

samples = st.lists(st.tuples(st.integers(0, 255), st.booleans()), min_size=1, max_size=60)


def counts_of(found: list[tuple[int, bool]]) -> metrics.Histogram:
    scores = np.array([score for score, _ in found], np.uint8)
    truth = np.array([is_defect for _, is_defect in found], bool)
    return metrics.histogram(scores, truth, np.ones(len(found), bool))


@given(samples)
def test_auroc_is_the_share_of_pairs_in_order(found: list[tuple[int, bool]]) -> None:
    bad = [score for score, is_defect in found if is_defect]
    clean = [score for score, is_defect in found if not is_defect]
    pairs = [(b > c) + 0.5 * (b == c) for b in bad for c in clean]
    assert metrics.auroc(counts_of(found)) == pytest.approx(sum(pairs) / len(pairs) if pairs else 0.0)


@given(samples)
def test_average_precision_follows_its_definition(found: list[tuple[int, bool]]) -> None:
    defects, before, area = sum(is_defect for _, is_defect in found), 0.0, 0.0
    for level in sorted({score for score, _ in found}, reverse=True):
        called = [is_defect for score, is_defect in found if score >= level]
        recall = sum(called) / max(defects, 1)
        area, before = area + (recall - before) * sum(called) / len(called), recall
    assert metrics.average_precision(counts_of(found)) == pytest.approx(area)


def test_figures_at_a_threshold() -> None:
    counts = counts_of([(200, True), (200, True), (10, True), (200, False), (10, False)])
    assert metrics.at_threshold(counts, 100) == pytest.approx(
        {"iou": 0.5, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3}
    )
    assert metrics.at_threshold(counts, 10)["f1"] == pytest.approx(0.75)
    assert metrics.best_f1_level(counts) == 1
