"""Lock files: one holder, and made anew where somebody deletes them."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from inspectd.runtime.locks import LockFile, holder

HOLD = """
import sys
from pathlib import Path
from inspectd.runtime.locks import LockFile
lock = LockFile(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def lock(path: Path) -> Iterator[LockFile]:
    made = LockFile(path)
    yield made
    made.close()


def other(path: Path) -> "subprocess.Popen[str]":
    """Another process that holds the lock until its stdin ends."""
    command = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.communicate()


def test_one_process_holds_it_and_says_which(lock: LockFile, path: Path) -> None:
    assert holder(path) == str(os.getpid())
    with pytest.raises(BlockingIOError):
        LockFile(path)
    lock.look()
    assert lock.trouble == ""


def test_it_is_free_when_its_holder_is_gone(path: Path) -> None:
    process = other(path)
    with pytest.raises(BlockingIOError):
        LockFile(path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    LockFile(path).close()


def test_where_it_is_deleted_it_is_made_anew(lock: LockFile, path: Path) -> None:
    path.unlink()
    with capture_logs() as logs:
        lock.look()
        lock.look()
    assert lock.trouble == "" and [log["event"] for log in logs] == ["a lock was deleted: it is made anew"]
    with pytest.raises(BlockingIOError):
        LockFile(path)


def test_where_another_process_was_faster_that_is_told_once_until_it_ends(lock: LockFile, path: Path) -> None:
    path.unlink()
    process = other(path)
    with capture_logs() as logs:
        for _ in range(3):
            lock.look()
    assert lock.trouble == f"the lock {path} was deleted, and process {process.pid} holds it now: end that one"
    assert [log["event"] for log in logs] == [lock.trouble]
    end(process)
    lock.look()
    assert lock.trouble == "" and holder(path) == str(os.getpid())


def test_where_it_cannot_be_made_anew_that_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    lock = LockFile(folder / "lock")
    shutil.rmtree(folder)
    lock.look()
    assert (
        lock.trouble == f"the lock {folder}/lock was deleted, and can't be made again: No such file or directory"
    )
    folder.mkdir()
    lock.look()
    assert lock.trouble == "" and (folder / "lock").exists()
    lock.close()


def test_nobody_knows_who_holds_what_is_not_there(path: Path) -> None:
    assert holder(path) == "?"
    path.touch()
    assert holder(path) == "?"
