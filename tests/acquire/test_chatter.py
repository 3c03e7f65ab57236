"""What a child process prints, through a real pipe."""

import os
import subprocess
import sys

import structlog
from structlog.typing import EventDict

from inspectd.acquire.chatter import LAST, LINES, LONGEST, Chatter


def texts(logged: list[EventDict]) -> list[str]:
    return [line["text"] for line in logged if "text" in line]


def test_lines_are_logged_whole_and_as_whose_they_are() -> None:
    with structlog.testing.capture_logs() as logged:
        chatter = Chatter(camera="top")
        assert not chatter.read()
        os.write(chatter.child_fd, b"one\ntwo, be")
        assert chatter.read()
        os.write(chatter.child_fd, b"gun\n\n\xff\x1b[31mred\n" + b"x" * 1000 + b"\nno end")
        chatter.read()
        assert texts(logged) == ["one", "two, begun", "\ufffd\x1b[31mred", "x" * LONGEST]
        chatter.close()
    assert texts(logged)[4:] == ["no end"]
    assert {line["camera"] for line in logged} == {"top"}


def test_who_prints_too_much_never_waits_and_its_last_words_are_kept() -> None:
    program = "import os\nfor n in range(3000): os.write(2, b'%04d\\n' % n)\nos.write(2, b'terminate called')"
    with structlog.testing.capture_logs() as logged:
        chatter = Chatter()
        child = subprocess.Popen([sys.executable, "-c", program], stderr=chatter.child_fd)
        chatter.started()
        assert child.wait(60) == 0  # though nobody reads
        chatter.close()
    said = texts(logged)
    assert said[:LINES] == [f"{n:04}" for n in range(LINES)]
    assert said[LINES:] == [f"{n:04}" for n in range(3000 - LAST, 3000)] + ["terminate called"]
    assert [line["lines_not_logged"] for line in logged if "text" not in line] == [3000 - LINES - LAST]


def test_a_full_pipe_takes_no_more_and_one_without_line_ends_is_bounded() -> None:
    with structlog.testing.capture_logs() as logged:
        chatter = Chatter()
        program = "import os\ntry:\n  while True: os.write(2, b'z' * 4096)\nexcept BlockingIOError: pass"
        for _ in range(3):
            assert subprocess.run([sys.executable, "-c", program], stderr=chatter.child_fd).returncode == 0
            chatter.read()
        chatter.close()
    assert texts(logged) == ["z" * LONGEST]


def test_where_it_goes_on_the_number_of_lines_left_out_is_said() -> None:
    with structlog.testing.capture_logs() as logged:
        chatter = Chatter()
        os.write(chatter.child_fd, b"a\n" * (LINES + 500))
        chatter.read()
        chatter._room = 5.0  # a second later
        os.write(chatter.child_fd, b"b\n")
        chatter.read()
        chatter.close()
    assert texts(logged) == ["a"] * LINES + ["b"]
    assert [line["lines_not_logged"] for line in logged if "text" not in line] == [500]
