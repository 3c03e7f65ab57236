"""Is the picture fit to be judged?"""

import numpy as np
import pytest

from inspectd.judge.image import SAMPLE_ROWS, sample_of, unfitness
from inspectd.settings.recipe import ImageLimits


def picture(value: int, channels: int = 1) -> np.ndarray:
    return np.full((65, 70, channels), value, np.uint8)


def test_the_sample_is_a_copy_of_every_16th_row_of_the_middle_channel() -> None:
    image = np.random.default_rng(0).integers(0, 255, (65, 70, 3), np.uint8)
    sample = sample_of(image)
    assert sample.shape == (5, 70)
    assert np.array_equal(sample, image[::SAMPLE_ROWS, :, 1])
    image[...] = 0
    assert sample.any()
    assert np.array_equal(sample_of(picture(7)), np.full((5, 70), 7))


def test_without_limits_every_picture_is_fit() -> None:
    sample = sample_of(picture(0))
    assert unfitness(sample, sample, ImageLimits()) == ""


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (19, "too dark: mean 19.0, at least 20 wanted"),
        (20, ""),
        (200, ""),
        (201, "too bright: mean 201.0, at most 200 wanted"),
    ],
)
def test_exposure(value: int, said: str) -> None:
    assert unfitness(sample_of(picture(value)), None, ImageLimits(min_mean=20, max_mean=200)) == said


def test_sharpness_is_the_mean_square_of_the_horizontal_gradient() -> None:
    stripes = picture(100)
    stripes[:, ::4] = 110
    sample = sample_of(stripes)
    limits = ImageLimits(min_sharpness=10)
    assert unfitness(sample, None, limits) == ""
    assert unfitness(sample_of(picture(100)), None, limits) == "blurred: sharpness 0.0, at least 10 wanted"
    assert unfitness(sample, None, ImageLimits(min_sharpness=1000)).startswith("blurred: sharpness ")


def test_an_identical_picture_comes_from_a_frozen_camera() -> None:
    limits = ImageLimits(refuse_identical=True)
    first, second = sample_of(picture(100)), sample_of(picture(100))
    assert unfitness(first, None, limits) == ""
    assert "identical" in unfitness(second, first, limits)
    second[0, 0] ^= 1
    assert unfitness(second, first, limits) == ""
