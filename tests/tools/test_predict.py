from pathlib import Path

import pytest

from inspectd.runtime.errors import UserError
from inspectd_train.report.predict import predict
from tests.bundles import write_bundle
from tests.tools.greys import write_greys


def test_two_pictures_for_one_mask_are_refused(tmp_path: Path) -> None:
    images = write_greys(tmp_path / "d", {"train": {"a.png": [], "b.png": []}}) / "images"
    (images / "b.png").rename(images / "a.bmp")
    with pytest.raises(UserError, match=r"a\.bmp: shares its mask's name with a\.png"):
        predict(write_bundle(tmp_path / "b", 1), images, tmp_path / "out", None, 1)
    assert not (tmp_path / "out").exists()
