"""Is the picture itself fit to be judged?"""

import cv2
import numpy as np

from inspectd.extract.plan import U8
from inspectd.settings.recipe import ImageLimits

SAMPLE_ROWS = 16
"""Every 16th row is looked at, over its full width: enough for exposure, blur and sameness."""


def sample_of(image: U8) -> U8:
    """Every 16th row of an image uint8 [H, W, C], one channel (green of RGB), copied: uint8 [ceil(H/16), W]."""
    return np.ascontiguousarray(image[::SAMPLE_ROWS, :, image.shape[2] // 2])


def unfitness(sample: U8, previous: U8 | None, limits: ImageLimits) -> str:
    """Why the picture must not be judged, as a sentence; empty if it may. `previous`: the last sample."""
    if limits.refuse_identical and previous is not None and np.array_equal(sample, previous):
        return "identical to the picture before: is the camera frozen?"
    mean = float(sample.mean())
    if limits.min_mean is not None and mean < limits.min_mean:
        return f"too dark: mean {mean:.1f}, at least {limits.min_mean:g} wanted"
    if limits.max_mean is not None and mean > limits.max_mean:
        return f"too bright: mean {mean:.1f}, at most {limits.max_mean:g} wanted"
    if limits.min_sharpness is not None:
        edges = cv2.Sobel(sample, cv2.CV_32F, 1, 0, ksize=1)
        sharpness = float(np.square(edges).mean())
        if sharpness < limits.min_sharpness:
            return f"blurred: sharpness {sharpness:.1f}, at least {limits.min_sharpness:g} wanted"
    return ""
