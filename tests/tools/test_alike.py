import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inspectd_train.data.alike import alike_pairs, signature
from inspectd_train.data.shapes import make_picture, texture

U8 = NDArray[np.uint8]


def pictures(count: int) -> list[U8]:
    """Different pieces of one material: steel under uneven light, with shapes on it."""
    return [make_picture(5, n, (220, 180), False)[0] for n in range(count)]


def changed(image: U8, how: str) -> U8:
    noise = np.random.default_rng(1).normal(0, 4, image.shape)
    changes = {
        "jpeg": lambda: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], -1)[
            ..., None
        ],
        "darker": lambda: (255 * (image / 255.0) ** 1.4 * 0.7).astype(np.uint8),
        "brighter": lambda: np.clip(image.astype(int) + 40, 0, 255).astype(np.uint8),
        "noise": lambda: np.clip(image + noise, 0, 255).astype(np.uint8),
        "smaller": lambda: cv2.resize(image, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)[..., None],
        "colour": lambda: np.repeat(image, 3, axis=2),
        "bottom row lost": lambda: image[:-1],
    }
    return np.asarray(changes[how](), np.uint8)


def found(images: list[U8]) -> set[tuple[int, int]]:
    return {(p.first, p.second) for p in alike_pairs([signature(i) for i in images], [i.shape for i in images])}


def test_different_pictures_are_not_alike() -> None:
    assert found(pictures(60)) == set()


@pytest.mark.parametrize("how", ["jpeg", "darker", "brighter", "noise", "smaller", "colour", "bottom row lost"])
@pytest.mark.parametrize("count", [2, 40])
def test_a_changed_copy_is_found(how: str, count: int) -> None:
    images = pictures(count)
    assert found([*images, changed(images[0], how)]) == {(0, count)}


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_all_eight_orientations_are_found(quarter: int, mirrored: bool) -> None:
    images = pictures(16)
    turned = np.rot90(images[3], quarter)
    assert found([*images, np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)]) == {(3, 16)}


def test_what_all_pictures_share_makes_none_alike() -> None:
    """Parts in a fixture: the same strong outline in every picture, a texture of its own in each."""
    rng = np.random.default_rng(2)
    outline = np.zeros((180, 220))
    for x in range(10, 220, 30):
        cv2.line(outline, (x, 0), (220 - x, 180), 90.0, 3)
    images = [np.clip(texture(rng, 180, 220) + outline, 0, 255).astype(np.uint8)[..., None] for _ in range(30)]
    assert found([*images, changed(images[7], "jpeg")]) == {(7, 30)}


def test_flat_pictures_and_too_few() -> None:
    flat = [np.full((80, 80, 1), level, np.uint8) for level in range(100, 120)]
    assert found(flat) == set()
    assert found(flat[:1]) == set() == found([])
