"""How findings are printed: commands whole, on terminals of any width."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from inspectd.cli.tables import _command_lines, print_findings
from inspectd.doctor.usb import UDEV_REMEDY
from tests.makers import shown_on

COMMAND = re.compile(r"(?:^|; |: )((?:sudo|echo|watch) .*?)(?=; |$)")


def printed_on_terminal(columns: int, *arguments: str) -> list[str]:
    """Lines that a command prints on a terminal of so many columns."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "inspectd", *arguments]
    child = subprocess.Popen(command, stdin=its, stdout=its, stderr=subprocess.DEVNULL, env=env)
    os.close(its)
    said = shown_on(ours)
    assert child.wait(120) in (0, 1)
    return said.decode().splitlines()


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_every_command_of_the_doctor_can_be_copied_whole(columns: int) -> None:
    lines = printed_on_terminal(columns, "doctor", "camera")
    asked = subprocess.run([sys.executable, "-m", "inspectd", "doctor", "camera", "--json"], capture_output=True)
    remedies = [json.loads(row)["remedy"] for row in asked.stdout.splitlines()]
    commands = [command for remedy in remedies for command in COMMAND.findall(remedy)]
    assert any(len(command) > 60 for command in commands)
    assert [line for line in lines if len(line) > columns and " " in line.strip() and "'" not in line] == []
    stripped = [line.strip() for line in "\n".join(lines).replace(" \\\n  ", " ").splitlines()]
    assert [command for command in commands if command not in stripped] == []
    wanted = [line for line in lines if line.strip().startswith("wanted: ")]
    assert wanted and all(len(line) <= columns for line in wanted)


def test_a_command_longer_than_the_terminal_goes_on_behind_a_backslash() -> None:
    """A shell takes its lines as the one command that they are."""
    command = "echo 'what stands in quotes, however long' | tee" + " /a/name/of/a/file" * 9
    lines = _command_lines(command, 60)
    assert len(lines) > 2 and all(len(line) <= 60 for line in lines)
    script = "\n".join(lines).replace("| tee", "; printf '%s\\n'")
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown == "what stands in quotes, however long\n" + "/a/name/of/a/file\n" * 9


def test_steps_of_a_remedy_stand_on_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    remedy = f"{UDEV_REMEDY}; don't forget: sudo tee '/a; b'/c; to keep it: MTU=9 under [Link]"
    row = {"check": "USB", "status": "fail", "found": "this", "wanted": "that", "remedy": remedy}
    print_findings([row, {"check": "more", "status": "ok", "found": "x", "wanted": "y", "remedy": ""}], json=False)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:4] == [
        "fail     USB: this",
        "wanted: that",
        "sudo groupadd -rf inspectd",
        "sudo usermod -aG inspectd $USER",
    ]
    assert lines[4].startswith("echo 'SUBSYSTEM") and lines[4].endswith("sudo tee /etc/udev/rules.d/70-u3v.rules")
    assert lines[-5:] == [
        "log in again",
        "don't forget:",
        "sudo tee '/a; b'/c",
        "to keep it: MTU=9 under [Link]",
        "ok       more: x",
    ]
    print_findings([row], json=True)
    assert json.loads(capsys.readouterr().out) == row
