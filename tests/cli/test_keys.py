"""`inspectd keygen` as a user runs it."""

from pathlib import Path

import pytest

from inspectd.wire.keys import load_public, load_secret
from tests.lines import inspectd


def test_keygen_makes_a_pair_and_says_what_to_do_with_it(tmp_path: Path) -> None:
    shown = inspectd("keygen", "hmi", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert load_secret(tmp_path / "keys/hmi.key_secret").public == load_public(tmp_path / "keys/hmi.key")
    for words in ("keys/hmi.key_secret  secret", "`read` or `control`", 'server_key = "keys/hmi.key_secret"'):
        assert words in shown.stdout
    secret = load_secret(tmp_path / "keys/hmi.key_secret").secret.decode()
    assert secret not in shown.stdout


@pytest.mark.parametrize("arguments", [["hmi"], ["a/b"], ["hmi", "--folder", "file"]])
def test_a_mistake_is_one_sentence(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "file").write_text("")
    inspectd("keygen", "hmi", cwd=tmp_path)
    shown = inspectd("keygen", *arguments, cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (1, "") and shown.stderr.count("\n") == 1
    assert shown.stderr.startswith("inspectd: ")
