from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tools.synthetic import write_data_set
from tools.augment import Augmentation, pasted_crop, random_crop
from tools.dataset import DONT_CARE, Sample, load, open_data_set
from tools.sampler import REACH, Place, Sampling, batches, defect_places, make_batch

HOW = Sampling(
    seed=3, batch=6, crop=Augmentation(96), stride=4, target="coverage",
    defect_share=0.5, hard_share=0.2, paste_share=0.5, balanced=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = write_data_set(tmp_path_factory.mktemp("sampler") / "data", height=200, width=260)
    return load(open_data_set(folder), "train", channels=1)


@pytest.fixture(scope="module")
def defects(samples: list[Sample]) -> list[list[Place]]:
    return defect_places(samples, 1)


def test_place_of_a_defect_lies_in_it() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[20:80, 20:80] = 1
    mask[30:70, 30:70] = 0  # a ring: the middle of its box is none of it
    ((index, x, y),) = defect_places([Sample("a", np.zeros((100, 100, 1), np.uint8), mask)], 1)[0]
    assert index == 0
    assert mask[int(y), int(x)] == 1


def test_crop_around_a_defect_keeps_picture_and_mask_together(
    samples: list[Sample], defects: list[list[Place]]
) -> None:
    rng = np.random.default_rng(0)
    for index, x, y in defects[0][:6]:
        image, mask = random_crop(samples[index], (x, y), Augmentation(96), rng)
        assert image.shape == (96, 96, 1)
        assert image[mask == 1].mean() < image[mask == 0].mean() - 20


def test_pasted_defect_is_seen_and_marked(samples: list[Sample], defects: list[list[Place]]) -> None:
    rng = np.random.default_rng(0)
    clean = Sample("clean", np.full((200, 200, 1), 220, np.uint8), np.zeros((200, 200), np.uint8))
    marked = 0
    for index, x, y in defects[0][:6]:
        image, mask = pasted_crop((clean, (100.0, 100.0)), (samples[index], (x, y)), Augmentation(96), rng)
        marked += (mask == 1).any()
        if (mask == 1).any():
            assert image[mask == 1].mean() < image[mask == 0].mean() - 15
            around = image[(mask == 0)].astype(float)
            assert around.std() < 30, "the surroundings take the grey level of the place"
    assert marked >= 5


def test_a_defect_lies_near_the_middle_of_its_crop() -> None:
    pit = Sample("pit", np.full((300, 300, 1), 200, np.uint8), np.zeros((300, 300), np.uint8))
    pit.mask[148:152, 148:152] = 1
    how = replace(HOW, crop=Augmentation(96, strength=0.0), defect_share=1.0)
    targets = np.concatenate(
        [make_batch([pit], defect_places([pit], 1), [], how, n, 0).targets for n in range(10)]
    )
    rows, columns = np.nonzero(targets[:, 1] > 0)[1:]
    assert (targets[:, 1] > 0).any(axis=(1, 2)).all()
    away_px = how.stride * np.abs(np.stack([rows, columns]) + 0.5 - 12)
    assert 0.1 * 96 < away_px.max() < REACH * 96 + 8


def test_never_upside_down_where_parts_never_are() -> None:
    image = np.zeros((128, 128, 1), np.uint8)
    image[:64] = 200  # bright above
    sample, rng = Sample("a", image, np.zeros((128, 128), np.uint8)), np.random.default_rng(0)
    for _ in range(20):
        crop, _ = random_crop(sample, (64.0, 64.0), Augmentation(64, "sides"), rng)
        assert crop[:16].mean() > crop[-16:].mean()


def test_what_lies_outside_the_picture_is_unknown(samples: list[Sample]) -> None:
    _, mask = random_crop(samples[0], (0.0, 0.0), Augmentation(96, "none"), np.random.default_rng(0))
    assert (mask == DONT_CARE).mean() > 0.5


def test_a_batch_depends_on_seed_step_and_rank_alone(samples: list[Sample], defects: list[list[Place]]) -> None:
    one = make_batch(samples, defects, [], HOW, step=7, rank=0)
    again = make_batch(samples, defects, [], HOW, step=7, rank=0)
    assert np.array_equal(one.images, again.images)
    assert np.array_equal(one.targets, again.targets)
    for step, rank in ((8, 0), (7, 1)):
        assert not np.array_equal(one.images, make_batch(samples, defects, [], HOW, step, rank).images)
    assert one.images.shape == (6, 96, 96, 1)
    assert one.targets.shape == (6, 2, 24, 24)
    assert one.weights.shape == (6, 24, 24)


def test_batches_come_in_order_and_end(samples: list[Sample], defects: list[list[Place]]) -> None:
    drawn = list(batches(samples, defects, [(0, 50.0, 50.0)], HOW, range(3, 12), 0))
    assert len(drawn) == 9
    for step, batch in zip(range(3, 12), drawn, strict=True):
        assert np.array_equal(batch.images, make_batch(samples, defects, [(0, 50.0, 50.0)], HOW, step, 0).images)


def test_pictures_smaller_than_a_crop_serve(tmp_path: Path) -> None:
    tiny = Sample("a", np.zeros((64, 70, 3), np.uint8), np.zeros((64, 70), np.uint8))
    tiny.mask[10:20, 10:20] = 1
    assert make_batch([tiny], defect_places([tiny], 1), [], HOW, 0, 0).images.shape == (6, 96, 96, 3)
