from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspectd_train.data.dataset import DONT_CARE, Sample, load, open_data_set
from inspectd_train.train.augment import Augmentation, pasted_crop, random_crop
from inspectd_train.train.sampler import REACH, Place, Sampling, batches, defect_places, make_batch
from tests.tools.synthetic import write_data_set

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
    farthest_px = 0.0
    for step in range(10):
        batch = make_batch([pit], defect_places([pit], 1), [], how, step, 0)
        side_px = batch.images.shape[1]
        marked = batch.targets[:, 1] > 0
        assert marked.any(axis=(1, 2)).all()
        at_px = how.stride * (np.stack(np.nonzero(marked)[1:]) + 0.5)
        away_px = np.abs(at_px - side_px / 2).max()
        assert away_px < REACH * side_px + 8
        farthest_px = max(farthest_px, away_px)
    assert farthest_px > 0.1 * 96


def test_never_upside_down_where_parts_never_are() -> None:
    image = np.zeros((128, 128, 1), np.uint8)
    image[:64] = 200  # bright above
    sample, rng = Sample("a", image, np.zeros((128, 128), np.uint8)), np.random.default_rng(0)
    for _ in range(20):
        crop, _ = random_crop(sample, (64.0, 64.0), Augmentation(64, "sides"), rng)
        assert crop[:16].mean() > crop[-16:].mean()


@pytest.mark.parametrize("size_px", [95, 96])
def test_a_crop_at_the_border_ends_with_the_picture(size_px: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (131, 150, 1)).astype(np.uint8)
    sample, how = Sample("a", image, np.zeros((131, 150), np.uint8)), Augmentation(size_px, "none", strength=0.0)
    for centre, corner in (((3.0, 0.0), np.s_[:size_px, :size_px]), ((149.0, 140.0), np.s_[-size_px:, -size_px:])):
        drawn = [random_crop(sample, centre, how, np.random.default_rng(seed)) for seed in range(5)]
        assert all((mask == 0).all() for _, mask in drawn)
        alike = [np.corrcoef(crop.ravel(), image[corner].ravel())[0, 1] for crop, _ in drawn]
        assert np.median(alike) > 0.99, "to the pixel, where neither blur nor noise was added"


def test_what_a_turn_opens_is_unknown(samples: list[Sample]) -> None:
    rng = np.random.default_rng(0)
    masks = [random_crop(samples[0], (0.0, 0.0), Augmentation(96, strength=2.0), rng)[1] for _ in range(40)]
    unknown = [float((mask == DONT_CARE).mean()) for mask in masks]
    assert sum(share == 0 for share in unknown) > 8, "unturned ones end with the picture"
    assert 0 < max(unknown) < 0.2


def test_a_batch_depends_on_seed_step_and_rank_alone(samples: list[Sample], defects: list[list[Place]]) -> None:
    one = make_batch(samples, defects, [], HOW, step=7, rank=0)
    again = make_batch(samples, defects, [], HOW, step=7, rank=0)
    assert np.array_equal(one.images, again.images)
    assert np.array_equal(one.targets, again.targets)
    for step, rank in ((8, 0), (7, 1)):
        assert not np.array_equal(one.images, make_batch(samples, defects, [], HOW, step, rank).images)


def test_sides_of_crops_come_in_all_remainders_of_16(samples: list[Sample], defects: list[list[Place]]) -> None:
    sides = set()
    for step in range(80):
        batch = make_batch(samples, defects, [], replace(HOW, batch=1), step, 0)
        side = batch.images.shape[1]
        cells = -(-side // HOW.stride)
        assert batch.images.shape == (1, side, side, 1)
        assert batch.targets.shape == (1, 2, cells, cells)
        assert batch.weights.shape == (1, cells, cells)
        sides.add(side)
    assert sides == set(range(81, 97))


def test_batches_come_in_order_and_end(samples: list[Sample], defects: list[list[Place]]) -> None:
    drawn = list(batches(samples, defects, [(0, 50.0, 50.0)], HOW, range(3, 12), 0))
    assert len(drawn) == 9
    for step, batch in zip(range(3, 12), drawn, strict=True):
        assert np.array_equal(batch.images, make_batch(samples, defects, [(0, 50.0, 50.0)], HOW, step, 0).images)


def test_pictures_smaller_than_a_crop_serve(tmp_path: Path) -> None:
    tiny = Sample("a", np.zeros((64, 70, 3), np.uint8), np.zeros((64, 70), np.uint8))
    tiny.mask[10:20, 10:20] = 1
    batch = make_batch([tiny], defect_places([tiny], 1), [], HOW, 0, 0)
    assert batch.images.shape[0] == 6 and batch.images.shape[3] == 3
    outside = batch.weights == 0
    assert 0.2 < outside.mean() < 0.7, "what lies outside the picture is unknown"
