"""The log, through real pipes that nobody reads."""

import os
import subprocess
import sys
from pathlib import Path

from inspectd.runtime.log import MOST_WAITING, Heedless

FLOOD = """
import sys
from inspectd.runtime.log import Stderr
log = Stderr()
for n in range(20000):
    log.write(f"{n:099}\\n")
print("written", flush=True)
sys.stdin.readline()
log.goodbye()
log.write("more\\n")
"""


def test_a_log_that_nobody_reads_drops_lines_and_says_how_many() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", FLOOD], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as child:
        assert child.stdout is not None and child.stdin is not None and child.stderr is not None
        assert child.stdout.readline() == "written\n"  # it did not wait for us
        child.stdin.write("\n")
        child.stdin.flush()
        lines = child.stderr.read().splitlines()
    assert lines.pop() == "more"
    wanted = dropped = 0
    for line in lines:
        if "dropped" in line:
            count = int(line.removesuffix(" lines of the log were dropped: nobody read it"))
            wanted, dropped = wanted + count, dropped + count
        else:
            assert int(line) == wanted
            wanted += 1
    assert wanted == 20000 and dropped > 20000 - 3 * MOST_WAITING


LIBRARY = """
import ctypes, os, sys, threading, warnings
from inspectd.cli.stderr import never_wait_for_readers
never_wait_for_readers(stdout=True)
libc = ctypes.CDLL(None)
for n in range(3000):
    libc.write(2, b"x" * 99 + b"\\n", 100)
    libc.write(1, b"x" * 99 + b"\\n", 100)
    print("a warning of Python's", "x" * 99, file=sys.stderr)
os.write(int(sys.argv[1]), b"done")
os._exit(0)
"""


def test_a_library_that_prints_waits_for_nobody() -> None:
    reader, writer = os.pipe()
    out, err = os.pipe(), os.pipe()
    command = [sys.executable, "-c", LIBRARY, str(writer)]
    child = subprocess.Popen(command, stdout=out[1], stderr=err[1], pass_fds=[writer])
    assert child.wait(60) == 0 and os.read(reader, 99) == b"done"
    assert os.get_blocking(out[1]) and os.get_blocking(err[1])  # who shares the pipes may wait as before
    for fd in (reader, writer, *out, *err):
        os.close(fd)


def test_a_heedless_file_takes_everything(tmp_path: Path) -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    file = Heedless(writer)
    for _ in range(100):
        print("x" * 4096, file=file, flush=True)
    os.close(reader)
    print("nobody reads", file=file)
    os.close(writer)
    print("and closed", file=file)


HELD = """
from inspectd.runtime.log import Stderr
log = Stderr()
log.write("before\\n")
log.goodbye()
log.hold_back()
log.write("held 1\\n")
log.write("held 2\\n")
print("held", flush=True)
input()
log.let_go()
log.goodbye()
"""


def test_what_is_held_back_is_written_when_it_is_let_go() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HELD], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as child:
        assert child.stdout is not None and child.stdin is not None and child.stderr is not None
        assert child.stdout.readline() == "held\n"
        os.set_blocking(child.stderr.fileno(), False)
        assert child.stderr.read() == "before\n"
        os.set_blocking(child.stderr.fileno(), True)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stderr.read() == "held 1\nheld 2\n"
