import math

import pytest
import torch

from inspectd_train.net.losses import cross_entropy, dice, focal, loss_of, peak

CERTAIN = 20.0


def case(found: int, true: int, classes: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A crop of 4 x 4 cells of one class each, `found` by the network with certainty where `true` is right."""
    logits, targets = torch.zeros(1, 1 + classes, 4, 4), torch.zeros(1, 1 + classes, 4, 4)
    logits[:, found], targets[:, true] = CERTAIN, 1.0
    return logits, targets, torch.ones(1, 4, 4)


@pytest.mark.parametrize("kind", ["ce", "dice", "ce+dice", "focal+dice"])
def test_right_costs_nearly_nothing_and_wrong_much(kind: str) -> None:
    right = loss_of(*case(1, 1), kind=kind, peak_share=0.1, stride=4)  # type: ignore[arg-type]
    wrong = loss_of(*case(2, 1), kind=kind, peak_share=0.1, stride=4)  # type: ignore[arg-type]
    assert float(right) < 0.01 < 0.4 < float(wrong)


@pytest.mark.parametrize("kind", ["ce", "dice", "ce+dice", "focal+dice"])
def test_the_loss_is_the_sum_of_what_its_name_says(kind: str) -> None:
    torch.manual_seed(0)
    logits, targets, weights = torch.randn(2, 3, 8, 8), torch.rand(2, 3, 8, 8).softmax(1), torch.rand(2, 8, 8)
    terms = {"ce": cross_entropy, "dice": dice, "focal": focal}
    wanted = sum(float(terms[name](logits, targets, weights)) for name in kind.split("+"))
    found = loss_of(logits, targets, weights, kind=kind, peak_share=0.0, stride=4)  # type: ignore[arg-type]
    assert float(found) == pytest.approx(wanted)


def test_unknown_cells_cost_nothing() -> None:
    logits, targets, weights = case(2, 1)
    for loss in (cross_entropy, focal):
        assert float(loss(logits, targets, 0 * weights)) == 0
    assert float(peak(logits, 0 * targets, 0 * weights, 4)) < 1e-6


def test_cross_entropy_of_half_a_cell_is_lowest_at_one_half() -> None:
    targets = torch.tensor([0.5, 0.5]).view(1, 2, 1, 1)
    costs = [
        float(cross_entropy(torch.tensor([0.0, odds]).view(1, 2, 1, 1), targets, torch.ones(1, 1, 1)))
        for odds in (-1.0, 0.0, 1.0)
    ]
    assert min(costs) == costs[1] == pytest.approx(math.log(2))


def test_focal_spares_what_is_nearly_right() -> None:
    logits, targets, weights = case(1, 1)
    unsure = logits / 10
    assert float(focal(unsure, targets, weights)) < 0.1 * float(cross_entropy(unsure, targets, weights))


def test_dice_pays_for_a_small_weighty_defect_more_than_its_area() -> None:
    logits, targets = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)
    logits[:, 0], targets[:, 0] = CERTAIN, 1.0
    targets[:, 0, 0, 0], targets[:, 1, 0, 0] = 0.0, 1.0
    light, heavy = torch.ones(1, 8, 8), torch.ones(1, 8, 8)
    heavy[:, 0, 0] = 4.0
    assert float(dice(logits, targets, heavy)) > float(dice(logits, targets, light))


def test_peak_sees_one_false_cell_that_others_hardly_do() -> None:
    logits, targets = torch.zeros(1, 2, 64, 64), torch.zeros(1, 2, 64, 64)
    logits[:, 0], targets[:, 0] = CERTAIN, 1.0
    calm = float(peak(logits, targets, torch.ones(1, 64, 64), 4))
    logits[:, :, :2, :2] = torch.tensor([0.0, CERTAIN]).view(1, 2, 1, 1)
    assert calm < 1e-6
    assert float(peak(logits, targets, torch.ones(1, 64, 64), 4)) > 5
    assert float(cross_entropy(logits, targets, torch.ones(1, 64, 64))) < 0.03


def test_peak_leaves_slivers_alone() -> None:
    logits, targets = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)
    logits[:, 0], targets[:, 0] = CERTAIN, 1.0
    targets[:, 1, 0, 0] = 0.3
    assert float(peak(logits, targets, torch.ones(1, 8, 8), 4)) == 0
