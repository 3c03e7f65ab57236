"""Grey pictures for a colour model, and colour pictures for a grey one: one rule, wherever a picture comes from.

A grey model (1 channel) gets the luminance of an RGB picture, 0.299 R + 0.587 G + 0.114 B as OpenCV rounds it; a
colour model (3 channels) gets the grey of a grey one three times.
"""

import cv2
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
_CODES = {1: cv2.COLOR_RGB2GRAY, 3: cv2.COLOR_GRAY2RGB}


def recolour(image: U8, out: U8) -> None:
    """Convert grey to RGB, or RGB to grey, in place: uint8 [H, W, 1] and [H, W, 3], `out` C-contiguous."""
    cv2.cvtColor(image, _CODES[out.shape[2]], dst=out)


def with_channels(image: U8, channels: int) -> U8:
    """A grey or RGB image, uint8 [H, W, C], as grey (1 channel) or RGB (3); the array itself if it is that."""
    if image.shape[2] == channels:
        return image
    out = np.empty((*image.shape[:2], channels), np.uint8)
    recolour(image, out)
    return out


def conversion(found: int, wanted: int) -> str:
    """What happens to pictures of so many channels for a model that wants so many, in words; empty if nothing."""
    if found == wanted:
        return ""
    return "grey, as the model wants (the luminance)" if wanted == 1 else "RGB, as the model wants (grey thrice)"
