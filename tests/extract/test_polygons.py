import numpy as np

from inspectd.extract.polygons import contains


def test_an_edge_that_is_nearly_level_is_no_trouble() -> None:
    y, x = np.mgrid[:20, :20] + 0.5
    nearly = [(0.0, 0.0), (10.0, 1.1e-308), (10.0, 10.0), (0.0, 10.0)]
    level = [(0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0)]
    assert np.array_equal(contains(nearly, x, y), contains(level, x, y))
    assert contains(nearly, x, y).sum() == 100
