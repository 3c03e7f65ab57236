"""A score map out of the frame."""

from collections.abc import Sequence
from typing import assert_never

from inspectd.config import OpenVinoEngine
from inspectd.engine.backend import Backend
from inspectd.engine.bundle import Bundle
from inspectd.ring import Ring


def open_backend(config: OpenVinoEngine, bundle: Bundle, rings: Sequence[Ring]) -> Backend:
    """The engine for the pictures in these rings, self-tested; raises BundleError if the model can't be used."""
    match config:
        case OpenVinoEngine():
            from inspectd.engine.openvino import OpenVinoBackend  # openvino is imported only there

            return OpenVinoBackend(config, bundle, rings)
        case _:
            assert_never(config)
