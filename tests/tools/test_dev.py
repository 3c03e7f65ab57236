import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inspectd_train.data.dataset import DONT_CARE, Sample
from inspectd_train.train.checks import affordable, best_temperature, dev_figures, hard_places, segmenter, some_of

CPU = torch.device("cpu")


class Darkness(nn.Module):
    """Logits at stride 4: how dark a cell is, times `sure`."""

    def __init__(self, sure: float) -> None:
        super().__init__()
        self.sure = sure

    def forward(self, image: Tensor) -> Tensor:
        dark = -nn.functional.avg_pool2d(image.float(), 4, ceil_mode=True)
        return torch.cat([torch.zeros_like(dark), self.sure * dark], 1)


def picture(name: str, pits: int, false: int = 0) -> Sample:
    """Light 96 x 130 px with dark squares of 16 px: some marked, some not."""
    image, mask = np.full((96, 130, 1), 200, np.uint8), np.zeros((96, 130), np.uint8)
    for n in range(pits + false):
        image[8:24, 8 + 24 * n : 24 + 24 * n] = 20
        if n < pits:
            mask[8:24, 8 + 24 * n : 24 + 24 * n] = 1
    mask[90:, 120:] = DONT_CARE
    return Sample(name, image, mask)


def test_scores_have_a_cell_for_every_pixel() -> None:
    scores = segmenter(Darkness(4.0), CPU)(picture("a", 2).image)
    assert scores.shape == (1, 24, 33)
    assert scores[0, 3, 3] > 240
    assert scores[0, 15, 15] < 15


def test_perfect_net_has_perfect_figures_and_a_part_needs_both_kinds() -> None:
    parts = [picture("a", 2), picture("b", 0), picture("c", 1)]
    figures = dev_figures(Darkness(4.0), parts, 1, 4, CPU)
    assert [figures[key] for key in ("cell_miou", "cell_ap", "part_ap", "part_auroc", "score")] == [1.0] * 5
    assert dev_figures(Darkness(4.0), parts[:1], 1, 4, CPU)["part_ap"] == 0.0


def test_blind_net_scores_less() -> None:
    parts = [picture("a", 2), picture("b", 0)]
    assert dev_figures(Darkness(-4.0), parts, 1, 4, CPU)["score"] < 0.3


def test_hard_places_are_false_calls_away_from_marks() -> None:
    unknown = picture("c", 0, false=1)
    unknown.mask[:40, :40] = DONT_CARE
    samples = [picture("a", 1), picture("b", 0, false=1), unknown]
    places = hard_places(Darkness(4.0), samples, 1, 4, CPU, draw=0)
    assert [index for index, _, _ in places] == [1]
    assert places[0][1:] == (32.0, 32.0)


def test_hard_places_reach_to_the_last_row_and_column() -> None:
    image = np.full((90, 130, 1), 200, np.uint8)
    image[70:86, 110:126] = 20
    places = hard_places(Darkness(4.0), [Sample("a", image, np.zeros((90, 130), np.uint8))], 1, 4, CPU, draw=0)
    assert places == [(0, 96.0, 96.0)]


def test_temperature_undoes_what_a_net_is_too_sure_of() -> None:
    """One dark square in three is not marked: who is twice as sure is divided by twice as much."""
    parts = [picture("a", 2, false=1), picture("b", 2, false=1)]
    mild, bold = (best_temperature(Darkness(sure), parts, 1, 4, CPU) for sure in (4.0, 8.0))
    assert bold / mild == pytest.approx(2, rel=0.1)
    assert 0.5 < mild < bold < 5.4


def test_net_that_is_always_right_may_be_surer() -> None:
    assert best_temperature(Darkness(2.0), [picture("a", 2)], 1, 4, CPU) == 0.5


def test_checks_take_no_more_of_a_run_than_they_may() -> None:
    """A part that alone takes longer than all may leaves the fewest; a fraction of them is of both kinds."""
    clean = [Sample(f"c{n}", np.full((96, 96, 1), 200, np.uint8), np.zeros((96, 96), np.uint8)) for n in range(60)]
    parts = [*(_bad(n) for n in range(20)), *clean]
    assert affordable(Darkness(4.0), parts, 1, 4, CPU, 0.0) == 16
    assert affordable(Darkness(4.0), parts, 1, 4, CPU, 1e9) == 80
    some = some_of(parts, 16)
    assert (len(some), sum(part.mask.any() for part in some)) == (16, 4)
    assert [part.name for part in some] == [part.name for part in some_of(parts, 16)]
    assert some_of(parts, 80) is parts
    assert hard_places(Darkness(4.0), parts, 1, 4, CPU, draw=0, most_s=-1.0) == []


def _bad(n: int) -> Sample:
    return Sample(f"b{n}", np.full((96, 96, 1), 20, np.uint8), np.ones((96, 96), np.uint8))
