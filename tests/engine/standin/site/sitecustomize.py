"""With this folder in PYTHONPATH a process computes plans by the kernels of the tests: TensorRT wants a real GPU.

All else is real: TensorRT-RTX builds the plans, child processes prove them, pycuda talks to the driver.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[4]))  # `tests` is no installed package

from inspectd.engine.tensorrt import api as tensorrt
from tests.engine.standin import Planned

tensorrt.TensorRtNetwork = Planned  # type: ignore[assignment, misc]
