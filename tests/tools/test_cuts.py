import numpy as np

from inspectd_train.bundle.cuts import MOST_PICTURES, MOST_SIDE_PX, calibration_cuts, golden_images
from tests.tools.nets import sample


def test_golden_images_of_small_pictures_and_few_defects() -> None:
    clean = [sample("a", (64, 66), 1, [], seed=1)]
    assert [image.shape for image in golden_images(clean, 2)] == [(64, 66, 1)] * 3
    one = [*clean, sample("b", (300, 400), 3, [(350, 270, 2)], seed=2)]
    first = golden_images(one, 2)[0]
    assert first.shape == (192, 256, 3)
    assert np.array_equal(first, one[1].image[-192:, -256:])


def test_golden_images_show_the_classes_in_turn() -> None:
    spots = [(20 + 40 * n, 20, 1) for n in range(8)] + [(200, 250, 2)]
    images = golden_images([sample("a", (400, 500), 1, spots)], 2)
    assert [image.shape for image in images] == [(192, 256, 1), (187, 251, 1), (192, 256, 1)]
    assert not np.array_equal(images[0], images[1][:, :, :1][:192, :256])


def test_calibration_takes_a_bounded_number_of_bounded_cuts_around_defects() -> None:
    clean = [sample(str(n), (70, 600), 1, [], seed=n) for n in range(100)]
    bad = [sample(f"bad{n}", (700, 1500), 1, [(1400 * n // 60, 680, 1)], seed=n) for n in range(60)]
    for n, one in enumerate(bad):
        one.image[one.mask > 0] = n
        one.image[one.mask == 0] = 255
    cuts = calibration_cuts(clean + bad)
    assert len(cuts) == MOST_PICTURES
    assert {cut.shape for cut in cuts} == {(MOST_SIDE_PX, MOST_SIDE_PX, 1)}
    assert [int(cut.min()) for cut in (cuts[0], cuts[-1])] == [0, 59]
    assert all(cut.min() < 255 for cut in cuts)


def test_calibration_fills_up_with_clean_pictures() -> None:
    clean = [sample(str(n), (70, 600), 1, [], seed=n) for n in range(100)]
    bad = [sample("bad", (70, 80), 1, [(20, 20, 1)], seed=0)]
    cuts = calibration_cuts(clean + bad)
    assert len(cuts) == MOST_PICTURES
    assert [cut.shape for cut in cuts[:2]] == [(70, 80, 1), (70, MOST_SIDE_PX, 1)]
    assert len(calibration_cuts(clean[:1])) == 1
    assert calibration_cuts([]) == []
