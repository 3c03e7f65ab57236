import pytest
import structlog
import typer

from inspectd_train.cli.console import plain_errors


def test_warnings_do_not_mix_with_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with plain_errors():
        structlog.get_logger().warning("golden test failed")
    out, err = capsys.readouterr()
    assert not out
    assert "golden test failed" in err


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")]
)
def test_no_memory_is_a_sentence(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, plain_errors():
        raise error
    assert ended.value.exit_code == 1
    assert "out of memory; free some" in capsys.readouterr().err


def test_another_error_is_no_lack_of_memory() -> None:
    with pytest.raises(RuntimeError), plain_errors():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
