"""What systemd hears, and how often."""

import os
import socket
from pathlib import Path

import pytest

from inspectd.runtime.systemd import notify, watchdog_period_s


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_gets_one_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"@inspectd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0"))
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify("READY=1", "STATUS=line a: ready")
        assert sock.recv(4096) == b"READY=1\nSTATUS=line a: ready"
        notify("STATUS=paused by me: x\nMAINPID=1")
        assert sock.recv(4096) == b"STATUS=paused by me: x MAINPID=1"


def test_a_deaf_systemd_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")


def test_a_systemd_that_reads_nothing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        taken = 0
        while notify(f"STATUS={taken}"):
            taken += 1
        assert sock.recv(4096) == b"STATUS=0"
        assert notify("WATCHDOG=1")  # what was dropped may be sent again
        for n in range(1, taken):
            assert sock.recv(4096) == f"STATUS={n}".encode()
        assert sock.recv(4096) == b"WATCHDOG=1"


def test_a_sign_of_life_is_never_too_long_for_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert notify("WATCHDOG=1", "STATUS=" + "camera \udcff away; " * 1000)
        said = sock.recv(65536)
        assert said.startswith(b"WATCHDOG=1\nSTATUS=camera ? away; ") and len(said) <= 4096


@pytest.mark.parametrize(
    ("limit_us", "pid", "period_s"),
    [
        ("3000000", None, 1.0),
        pytest.param("3000000", str(os.getpid()), 1.0, id="mine"),  # or each worker of xdist has its own
        ("3000000", "1", None),
        ("", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_the_watchdog_is_fed_three_times_per_limit(
    monkeypatch: pytest.MonkeyPatch, limit_us: str | None, pid: str | None, period_s: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", limit_us), ("WATCHDOG_PID", pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert watchdog_period_s() == period_s
