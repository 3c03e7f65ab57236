import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from inspectd_train.dev import pycuda_wheel

NOWHERE = "http://127.0.0.1:9"
"""The port of `discard`, where nothing answers."""
COMPILER_SAID = """\
Building wheels for collected packages: pycuda
  Building wheel for pycuda (pyproject.toml): finished with status 'error'
  error: subprocess-exited-with-error

  × Building wheel for pycuda (pyproject.toml) did not run successfully.
  │ exit code: 1
  ╰─> [4 lines of output]
      building '_driver' extension
      g++ -Isrc/cpp -c src/cpp/cuda.cpp -o build/cuda.o
      src/cpp/cuda.hpp:23:10: fatal error: cuda.h: No such file or directory
      compilation terminated.
      [end of output]

  note: This error originates from a subprocess, and is likely not a problem with pip.
  ERROR: Failed building wheel for pycuda
"""
DEPENDENCIES_SAID = """\
  error: subprocess-exited-with-error

  × pip subprocess to install build dependencies did not run successfully.
  │ exit code: 1
  ╰─> [1 lines of output]
      ERROR: No matching distribution found for numpy>=1.24
      [end of output]
"""


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return subprocess.run(
        [sys.executable, "-m", "inspectd_train.dev.pycuda_wheel", *words],
        env=kept | {"PIP_CONFIG_FILE": os.devnull} | env,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def compilers(tmp_path: Path) -> Path:
    """A folder for PATH that has some that compile nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("gcc", "g++"):
        (folder / name).symlink_to(shutil.which("false") or "")
    return folder


def test_what_lies_there_is_not_built_again(tmp_path: Path) -> None:
    there = tmp_path / pycuda_wheel.wheel_name()
    there.touch()
    done = run("--out", str(tmp_path), PATH=str(tmp_path), https_proxy=NOWHERE)
    assert (done.stdout, done.stderr, done.returncode) == (f"{there.resolve()}\n", "", 0)


def test_the_default_folder_is_in_the_cache(tmp_path: Path) -> None:
    there = tmp_path / "inspectd/wheels" / pycuda_wheel.wheel_name()
    there.parent.mkdir(parents=True)
    there.touch()
    assert run(XDG_CACHE_HOME=str(tmp_path), PATH="").stdout == f"{there}\n"


def test_wheels_of_other_pythons_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "pycuda-2026.1-cp310-cp310-linux_x86_64.whl").touch()
    assert run("--out", str(tmp_path), PATH=str(tmp_path)).returncode == 1


def test_without_a_compiler(tmp_path: Path) -> None:
    done = run("--out", str(tmp_path / "out"), PATH=str(tmp_path))
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr == (
        "pycuda can't be built: no compiler (gcc); install one (Debian, Ubuntu: apt install g++)\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_compiler_that_is_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "ccache no-such-compiler")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pycuda_wheel.WheelError, match=r"no compiler \(ccache\)"):
        pycuda_wheel.compiler("CXX", "g++", "c++")


def test_without_network(tmp_path: Path, compilers: Path) -> None:
    (tmp_path / "tmp").mkdir()
    done = run(
        "--out",
        str(tmp_path / "out"),
        PATH=str(compilers),
        TMPDIR=str(tmp_path / "tmp"),
        PIP_INDEX_URL=f"{NOWHERE}/simple",
        PIP_RETRIES="0",
        PIP_NO_CACHE_DIR="1",
    )
    assert (done.stdout, done.returncode) == ("", 1)
    sentence, *said = done.stderr.splitlines()
    assert sentence == (
        "pycuda can't be built: pip can't download what it takes; "
        "connect to the network, or set PIP_INDEX_URL to a mirror of PyPI"
    )
    assert said[-1] == "  ERROR: No matching distribution found for nvidia-cuda-runtime-cu12==12.6.77"
    assert not any((tmp_path / "tmp").iterdir()) and not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_it_leaves_nothing(tmp_path: Path, compilers: Path, number: signal.Signals) -> None:
    (tmp_path / "tmp").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        env = {
            "PATH": str(compilers),
            "TMPDIR": str(tmp_path / "tmp"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/simple",
            "PIP_NO_CACHE_DIR": "1",
        }
        words = [sys.executable, "-m", "inspectd_train.dev.pycuda_wheel", "--out", str(tmp_path / "out")]
        with subprocess.Popen(
            words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as running:
            pip, _ = silent.accept()
            with pip:
                assert pip.recv(4).startswith(b"GET")
                running.send_signal(number)
                assert running.communicate(timeout=30)[0] == ""
                while pip.recv(4096):  # until it has gone too
                    pass
    assert running.returncode == 128 + number
    assert not any((tmp_path / "tmp").iterdir()) and not any((tmp_path / "out").iterdir())


def test_only_what_has_the_pinned_hash_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(package, "w") as content:
        content.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        content.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    pycuda_wheel.download(f"thing==1.0 --hash=sha256:{digest}", tmp_path / "right")
    assert [file.name for file in (tmp_path / "right").iterdir()] == [package.name]
    with pytest.raises(pycuda_wheel.WheelError, match="isn't the one that is pinned by its hash"):
        pycuda_wheel.download(f"thing==1.0 --hash=sha256:{'0' * 64}", tmp_path / "wrong")
    assert not any((tmp_path / "wrong").iterdir())


def test_a_failed_build_ends_in_the_compilers_words() -> None:
    sentence, *said = pycuda_wheel.why(COMPILER_SAID).splitlines()
    assert sentence.startswith("building failed")
    assert said == [
        "  building '_driver' extension",
        "  src/cpp/cuda.hpp:23:10: fatal error: cuda.h: No such file or directory",
        "  compilation terminated.",
    ]


def test_what_building_needs_may_be_missing_too() -> None:
    sentence, *said = pycuda_wheel.why(DEPENDENCIES_SAID).splitlines()
    assert sentence.startswith("pip can't download")
    assert said == ["  ERROR: No matching distribution found for numpy>=1.24"]


def test_a_disk_that_refuses_is_a_sentence(tmp_path: Path, compilers: Path) -> None:
    (tmp_path / "file").touch()
    done = run("--out", str(tmp_path / "file" / "out"), PATH=str(compilers))
    assert done.returncode == 1
    assert done.stderr == f"pycuda can't be built: {tmp_path}/file/out: Not a directory\n"
