"""What a test needs that runs on a GPU: skipped without one, with the reason."""

import sys

import pytest

from inspectd.engine.tensorrt.api import targets
from inspectd.runtime.errors import UnavailableError
from tests.engine.standin import is_standin
from tests.gpu import REHEARSED


@pytest.fixture(scope="session")
def card():  # type: ignore[no-untyped-def]  # inspectd.engine.tensorrt.cuda.Gpu, which can't be imported everywhere
    """The first GPU."""
    try:
        from inspectd.engine.tensorrt import cuda

        if is_standin(cuda._cuda) and not REHEARSED:
            pytest.skip("there is no NVIDIA driver, only the stand-in that other tests have loaded")
        return cuda.find(0)
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tensorrt(card):  # type: ignore[no-untyped-def]
    """TensorRT for this card."""
    from inspectd.engine.tensorrt.api import library

    try:
        found = library()
    except UnavailableError as error:
        pytest.skip(str(error))
    if found.rtx and card.sm not in targets(found):
        pytest.skip(
            f"{found.name} does not support {card.sm}: what needs no plan runs on the kernels of the tests"
        )
    return found


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Prints past pytest: figures are what these tests are run for."""

    def show(text: str) -> None:
        with capsys.disabled():
            print(f"\n    {text}", end="", file=sys.stderr)

    return show
