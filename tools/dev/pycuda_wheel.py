"""Builds a wheel of pycuda where there is no CUDA: `python -m inspectd_train.dev.pycuda_wheel --out DIR`.

PyPI has pycuda as source alone, which wants CUDA's headers and a libcuda.so to link with. Here the headers come
from PyPI too, and the library is an empty one: the wheel finds the driver's own where it runs. The path of the
wheel is the one line on stdout. Needs pip, a C++ compiler, and nothing of inspectd: it runs before any of that is
installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

VERSION = "2026.1"
SOURCE = f"""
pycuda=={VERSION} --hash=sha256:759516160628ba06f32ce7e563e3f5b9214691dc9528a03ea99ea1073f4e14ba
"""
HEADERS = """
nvidia-cuda-runtime-cu12==12.6.77 \
  --hash=sha256:a84d15d5e1da416dd4774cb42edf5e954a3e60cc945698dc1d5be02321c44dc8 \
  --hash=sha256:d461264ecb429c84c8879a7153499ddc7b19b5f8d84c204307491989a365588e
nvidia-cuda-profiler-api-cu12==12.6.77 \
  --hash=sha256:2f537a3fa4cd984c5fd7d5898b22cec35f5c61d5b1057895ebf7f4ab3c88ded9 \
  --hash=sha256:4dfdc7d84d2f9b7a643b2546f09756ba49caefb58953d0afd37d33e3cdd64640
"""
"""CUDA's headers for x86-64 and ARM64, of the oldest CUDA supported: the wheel runs with any later driver too."""
BUILD_PINS = Path(__file__).resolve().parents[2] / "constraints.txt"
SAID_LINES = 10
LINE_CHARS = 200

SETTINGS = """
CUDA_ROOT = ""
CUDA_INC_DIR = {headers!r}
CUDA_ENABLE_CURAND = False
CUDADRV_LIB_DIR = [{stub!r}]
USE_SHIPPED_BOOST = True
CXXFLAGS = ["-O2", "-g0", "-w"]

# distutils compiles one file at a time: give it the files one by one, on all cores.
from concurrent.futures import ThreadPoolExecutor
from distutils.ccompiler import CCompiler

compile_all = CCompiler.compile


def compile_at_once(self, sources, *args, **kwargs):
    with ThreadPoolExecutor({threads}) as pool:
        return sum(pool.map(lambda source: compile_all(self, [source], *args, **kwargs), sources), [])


CCompiler.compile = compile_at_once
"""
"""The settings, in Python, that pycuda's setup.py runs."""


class WheelError(Exception):
    """The wheel can't be built: a sentence for the user, and below it what a program said last."""


def main() -> None:
    """Prints the path of the wheel and ends with 0; or a sentence on stderr, and 1."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if number == signal.SIGINT or signal.getsignal(number) == signal.SIG_DFL:  # a shell's `&` ignores SIGINT
            signal.signal(number, _stop)
    parser = argparse.ArgumentParser(
        prog="python -m inspectd_train.dev.pycuda_wheel", description="Builds a wheel of pycuda."
    )
    parser.add_argument("--out", type=Path, help="where it goes (default: inspectd/wheels in your cache)")
    args = parser.parse_args()
    try:
        print(wheel(args.out or default_folder()))
    except WheelError as failure:
        sys.exit(f"pycuda can't be built: {failure}")
    except OSError as error:
        sys.exit(f"pycuda can't be built: {error.filename or 'disk'}: {error.strerror or error}")
    except RuntimeError as error:  # no home folder
        sys.exit(f"pycuda can't be built: {error} Set HOME, or give --out")


def default_folder() -> Path:
    """The folder for wheels in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inspectd" / "wheels"


def wheel(out: Path) -> Path:
    """Finds the wheel in `out`, or builds it; WheelError, OSError."""
    if (out / wheel_name()).is_file():
        return (out / wheel_name()).resolve()
    compilers = {"CC": compiler("CC", "gcc", "cc"), "CXX": compiler("CXX", "g++", "c++")}
    if importlib.util.find_spec("pip") is None:
        raise WheelError(f"{sys.executable} has no pip; run {shlex.quote(sys.executable)} -m ensurepip")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        raise WheelError(
            "Python's headers (Python.h) are missing; install them (Debian, Ubuntu: apt install python3-dev)"
        )
    out.mkdir(parents=True, exist_ok=True)
    with temporary_folder() as work:
        built = build(work, compilers)
        with temporary_folder(within=out) as near:  # the same file system, thus there is a whole wheel or none
            shutil.copyfile(built, near / built.name)
            return (near / built.name).replace(out / built.name).resolve()


def wheel_name() -> str:
    """The file name of the wheel, as pip names it for this Python."""
    abi = sysconfig.get_config_var("SOABI").split("-")[1]
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return f"pycuda-{VERSION}-{python}-cp{abi}-{platform}.whl"


def compiler(variable: str, *names: str) -> str:
    """Finds a compiler: what the environment variable says, or the first name that is installed; WheelError."""
    words = shlex.split(os.environ.get(variable, "")) or [*filter(shutil.which, names), names[0]][:1]
    if not shutil.which(words[0]):
        raise WheelError(f"no compiler ({words[0]}); install one (Debian, Ubuntu: apt install g++)")
    return shlex.join(words)


def build(work: Path, compilers: dict[str, str]) -> Path:
    """Builds a wheel in the folder `work`; WheelError."""
    download(HEADERS, work / "packages", "--only-binary=:all:")
    for package in (work / "packages").iterdir():
        with zipfile.ZipFile(package) as content:
            content.extractall(work / "headers")

    stub = work / "stub"
    stub.mkdir()
    (stub / "empty.c").touch()
    linking = [*shlex.split(compilers["CC"]), "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", "libcuda.so"]
    linked = subprocess.run([*linking, "empty.c"], cwd=stub, capture_output=True, text=True)
    if linked.returncode:
        raise WheelError(
            f"{compilers['CC']} doesn't link; repair it, or set CC to another" + last_lines(linked.stderr)
        )

    home = work / "home"
    settings = SETTINGS.format(
        headers=[str(folder) for folder in (work / "headers" / "nvidia").glob("*/include")],
        stub=str(stub),
        threads=len(os.sched_getaffinity(0)),
    )
    make_home(home, settings)
    # Ubuntu's linker would drop the stub, as nothing in it is used.
    env = compilers | {"HOME": str(home), "LDFLAGS": f"{os.environ.get('LDFLAGS', '')} -Wl,--no-as-needed"}
    if BUILD_PINS.is_file():
        for name in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"):  # an older pip reads the first, a newer the second
            env[name] = f"{os.environ.get(name, '')} {BUILD_PINS.as_uri()}"
    options = ["--no-binary=pycuda", "--no-cache-dir"]  # pip would take a wheel of other settings out of its cache
    pip("wheel", SOURCE, work / "built", *options, env=env)
    return next((work / "built").iterdir())


def make_home(home: Path, settings: str) -> None:
    """Makes a home folder with pycuda's settings, as pip unpacks its sources itself, and with what pip needs."""
    home.mkdir()
    for name in (".cache", ".config", ".netrc", ".pip"):
        if (Path.home() / name).exists():
            (home / name).symlink_to(Path.home() / name)
    (home / ".aksetup-defaults.py").write_text(settings)


def download(packages: str, into: Path, *options: str) -> None:
    """Downloads lines `NAME==VERSION --hash=…`; WheelError, also when what comes has another hash."""
    pip("download", packages, into, *options)


def pip(command: str, packages: str, into: Path, *options: str, env: dict[str, str] | None = None) -> None:
    """Runs `pip download` or `pip wheel` on lines `NAME==VERSION --hash=…`; WheelError."""
    into.mkdir()
    requirements = into.with_name(f"{command}.txt")
    requirements.write_text(packages)
    words = [command, "--no-deps", "--require-hashes", f"--requirement={requirements}", *options]
    words.append(f"--{'dest' if command == 'download' else 'wheel-dir'}={into}")
    env = os.environ | (env or {}) | {"TMPDIR": str(into.parent), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "pip", *words],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    ) as running:
        try:
            said, _ = running.communicate()
        except BaseException:  # its compilers end with it
            os.killpg(running.pid, signal.SIGKILL)
            raise
    if running.returncode:
        raise WheelError(why(said))


def why(said: str) -> str:
    """Turns pip's words into a sentence, and what it or a compiler said last."""
    if "DO NOT MATCH THE HASHES" in said:
        return "a package isn't the one that is pinned by its hash; take it from PyPI itself" + last_lines(said)
    if "[end of output]" in said and not re.search("build dependencies .*did not run", said):
        output = said.rpartition(" lines of output]")[2].partition("[end of output]")[0]
        return "building failed; the compiler's last words tell what to repair or install" + last_lines(output)
    errors = [line for line in said.splitlines() if line.lstrip().startswith("ERROR:")]
    missing = "pip can't download what it takes; connect to the network, or set PIP_INDEX_URL to a mirror of PyPI"
    return missing + last_lines("\n".join(errors))


def last_lines(said: str) -> str:
    """The last lines, indented below a sentence; without compilers' command lines, which are pages long."""
    lines = [line.strip() for line in said.splitlines()]
    kept = [line[:LINE_CHARS] for line in lines if line and " -c " not in line and " -shared " not in line]
    return "".join(f"\n  {line}" for line in kept[-SAID_LINES:])


@contextlib.contextmanager
def temporary_folder(within: Path | None = None) -> Iterator[Path]:
    """Makes a folder that is removed in any case.

    tempfile's own may change what the links in it point at (Python before 3.11.8).
    """
    folder = Path(tempfile.mkdtemp(prefix=".pycuda-", dir=within))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _stop(number: int, _: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # once more could interrupt the removal of what was begun
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
