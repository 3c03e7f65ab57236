import pytest
import structlog
import typer

from tools.console import plain_errors


def test_warnings_do_not_mix_with_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with plain_errors():
        structlog.get_logger().warning("golden test failed")
    out, err = capsys.readouterr()
    assert not out
    assert "golden test failed" in err


def test_no_memory_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, plain_errors():
        raise MemoryError
    assert ended.value.exit_code == 1
    assert "out of memory; free some" in capsys.readouterr().err
