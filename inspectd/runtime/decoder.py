"""Decoding a picture in a process of its own, for decoders that tell of damage on the standard error alone.

They fill what is missing with grey and only mutter. Here their standard error is a file of their own, which nobody
else prints to, and one that crashes takes only its own process with it. `python -m inspectd.runtime.decoder`
"""

import os
import re
import signal
import struct
import subprocess
import sys
import threading
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

HARMLESS = re.compile("TIFF_Warning|libpng warning")
"""Warnings of decoders about odd tags and colour profiles, not lost pixels."""
QUESTION = struct.Struct("<Q")
"""Size of the file's data, which is in the memfd."""
ANSWER = struct.Struct("<III4s")
"""Height, width, channels, type as numpy writes it; 0 if it can't be decoded. The pixels are in the memfd."""
WORDS = 4096
_lock = threading.Lock()
_running: "_Decoder | None" = None


def decode_apart(data: bytes) -> tuple[npt.NDArray[Any] | None, str]:
    """Decode an image file: the picture [H, W, C] as OpenCV gives it, None if it can't be, and the complaint."""
    global _running
    how = ""
    with _lock:
        for _ in range(2):  # the first time somebody else may have killed it
            if _running is None or _running.owner != os.getpid():  # not the one of who forked us
                _running = _Decoder()
            try:
                return _running.decode(data)
            except (OSError, EOFError):
                how = _running.end()
                _running = None
    return None, f"the decoder ended: {how}"


class _Decoder:
    """A running process that decodes one picture after the other, until its parent ends. Raises OSError."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._said = os.memfd_create("decoder", os.MFD_CLOEXEC)
        self._shared = os.memfd_create("picture", os.MFD_CLOEXEC)
        command = [sys.executable, "-P", "-m", "inspectd.runtime.decoder", str(self._shared)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, pass_fds=[self._shared],
            env={**os.environ, "OPENCV_LOG_LEVEL": "WARNING"},
        )  # fmt: skip

    def decode(self, data: bytes) -> tuple[npt.NDArray[Any] | None, str]:
        """Decode one file; raises OSError or EOFError if the process has died of it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        _write_whole(self._shared, memoryview(data))
        self._process.stdin.write(QUESTION.pack(len(data)))
        self._process.stdin.flush()
        answer = self._process.stdout.read(ANSWER.size)
        if len(answer) < ANSWER.size:
            raise EOFError
        *shape, kind = ANSWER.unpack(answer)
        image = None
        if kind[0]:
            image = np.empty(shape, kind.rstrip(b"\0").decode())
            _read_whole(self._shared, _bytes_of(image))
        return image, self._complaint()

    def _complaint(self) -> str:
        """What was said since, without what is harmless."""
        said = os.pread(self._said, WORDS, 0).decode(errors="replace")
        os.ftruncate(self._said, 0)
        os.lseek(self._said, 0, os.SEEK_SET)  # of both processes: they share it
        grave = [line for line in said.strip().splitlines() if not HARMLESS.search(line)]
        return grave[0] if grave else ""

    def end(self) -> str:
        """Let go of a process that has died; returns how it ended."""
        self._process.kill()
        self._process.communicate()
        os.close(self._said)
        os.close(self._shared)
        code = self._process.returncode
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _read_whole(fd: int, into: memoryview) -> None:
    done = 0
    while done < len(into):
        count = os.preadv(fd, [into[done:]], done)
        if not count:
            raise EOFError
        done += count


def _write_whole(fd: int, data: memoryview) -> None:
    """Let a file begin with this. What is behind it stays: its memory is used again."""
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], done)


def main() -> None:
    """Answer questions on the standard input until its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end is ours
    shared = int(sys.argv[1])
    cv2.setNumThreads(1)
    while len(asked := sys.stdin.buffer.read(QUESTION.size)) == QUESTION.size:
        (size,) = QUESTION.unpack(asked)
        data = bytearray(size)
        _read_whole(shared, memoryview(data))
        image = decode(data)
        answer = ANSWER.pack(0, 0, 0, b"")
        if image is not None:
            answer = ANSWER.pack(*(*image.shape, 1)[:3], image.dtype.str.encode())
            _write_whole(shared, _bytes_of(image))
        os.write(1, answer)


def _bytes_of(image: npt.NDArray[Any]) -> memoryview:
    """An array's own memory, for a contiguous one, as bytes."""
    return np.ascontiguousarray(image).reshape(-1).view(np.uint8).data


def decode(data: bytes | bytearray) -> npt.NDArray[Any] | None:
    """Decode an image file in this process; None if it can't be."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # as of a header that names an absurd size
        return None


if __name__ == "__main__":
    main()
