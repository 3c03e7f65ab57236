"""`inspectd watch`: what it prints."""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from inspectd.runtime.errors import UserError
from inspectd.runtime.frame import Judgement, Reason, Verdict, unknown
from inspectd.subscribe import Beat, Event, Missed, NewEpoch, Received, Results, Silence
from inspectd.subscribe.screen import Screen, row_of, trouble, what_to_check
from inspectd.subscribe.watch import Quiet, _live, _print, as_json, watch
from inspectd.wire.keys import Keys, write_pair
from inspectd.wire.results import Flag, Header, Heartbeat, VerdictCode, WireError
from tests.lines import inspectd
from tests.makers import frame, gap, region, shown_on
from tests.ports import free_endpoint
from tests.publish.lines import FAIL, PASS, Line, connected, results
from tests.wire.test_results import RESULT

HEADER = Header(Flag(0), VerdictCode.FAIL, 5, 17, 7, 1, 1)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.stop()


def keep_sending(line: Line, stop: threading.Event) -> threading.Thread:
    """Results until told to stop: whoever watches has subscribed by then."""

    def send() -> None:
        n = 0
        while not stop.wait(0.02):
            n += 1
            line.put(frame(n, slot=0), PASS if n % 2 else FAIL)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def watched(line: Line, capsys: pytest.CaptureFixture[str], count: int, json: bool) -> tuple[list[str], str]:
    stop = threading.Event()
    thread = keep_sending(line, stop)
    try:
        watch(line.endpoint, count, json)
    finally:
        stop.set()
        thread.join()
    out, err = capsys.readouterr()
    return out.splitlines(), err


def test_json_is_a_line_per_result(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    lines, err = watched(line, capsys, 5, json=True)
    found = [json.loads(text) for text in lines]
    assert len(found) == 5
    assert [one["seq"] for one in found] == list(range(found[0]["seq"], found[0]["seq"] + 5))
    assert {one["epoch"] for one in found} == {line.journal.epoch}
    assert {one["verdict"] for one in found} == {"PASS", "FAIL"}
    assert err == ""


def test_text_without_a_terminal(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = watched(line, capsys, 3, json=False)
    assert len(lines) == 3
    assert all("  top  " in text and ("PASS" in text or "FAIL" in text) for text in lines)


def test_a_gap_is_told_on_stderr(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    stop = threading.Event()
    thread = keep_sending(line, stop)
    watcher = threading.Thread(target=watch, args=(line.endpoint, 40, True))
    watcher.start()
    with Results(line.endpoint) as beside:
        connected(beside)
        results(beside, 15)  # by now the watcher hears as well
    line.lose(3)
    watcher.join(20)
    stop.set()
    thread.join()
    out, err = capsys.readouterr()
    assert "gap: 3 results can't be had any more, " in err
    assert len(out.splitlines()) == 40


@pytest.mark.parametrize("is_late", [False, True])
def test_with_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str], is_late: bool) -> None:
    """A key that is let in late is tried again."""
    for name in ("line", "hmi"):
        write_pair(tmp_path, name)
    listed = tmp_path / "clients/read/hmi.key"
    listed.parent.mkdir(parents=True)
    (tmp_path / "clients/control").mkdir()
    if not is_late:
        listed.write_bytes((tmp_path / "hmi.key").read_bytes())
    keys = {"server_key": f"{tmp_path}/line.key_secret", "client_keys": f"{tmp_path}/clients"}
    line = Line(tmp_path, endpoint=free_endpoint(), **keys)
    stop = threading.Event()
    thread = keep_sending(line, stop)

    def let_in() -> None:
        listed.write_bytes((tmp_path / "hmi.key").read_bytes())
        line.publisher.security.reload()

    if is_late:
        threading.Timer(1.0, let_in).start()
    try:
        watch(line.endpoint, 3, True, Keys(tmp_path / "line.key", tmp_path / "hmi.key_secret"))
    finally:
        stop.set()
        thread.join()
        line.stop()
    shown = [text for text in capsys.readouterr().out.splitlines() if text.startswith("{")]  # the log is there too
    assert len(shown) == 3


@pytest.mark.parametrize("given", ["--key", "--server-key"])
def test_one_key_alone_is_none(given: str, tmp_path: Path) -> None:
    shown = inspectd("watch", given, tmp_path / "x.key")
    assert shown.returncode == 1 and shown.stderr.startswith("inspectd: --server-key and --key go together")


def test_on_a_terminal_there_is_a_table(line: Line) -> None:
    ours, theirs = os.openpty()
    stop = threading.Event()
    thread = keep_sending(line, stop)
    program = f"from inspectd.subscribe.watch import watch; watch({line.endpoint!r}, 5, False)"
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen([sys.executable, "-c", program], stdout=theirs, env=environment)
    os.close(theirs)
    shown = shown_on(ours)
    assert process.wait(20) == 0
    stop.set()
    thread.join()
    assert b"verdict" in shown
    assert b"PASS" in shown


def test_the_json_of_a_result() -> None:
    found = json.loads(as_json(Received(HEADER, RESULT)))
    assert list(found)[:2] == ["seq", "epoch"]
    assert (found["seq"], found["epoch"], found["part_id"]) == (17, 5, 7)
    assert found["regions"][0]["class"] == "spot"


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Missed(3, 7), "gap: 5 results can't be had any more, 3 to 7"),
        (NewEpoch(9), "new epoch: the daemon began a new journal, or goes on with an old one"),
        (Silence(1.25), "silence: nothing heard of the daemon for 1.2 s"),
        (Received(HEADER, RESULT), ""),
    ],
)
def test_trouble(event: Event, said: str) -> None:
    assert trouble(event) == said


def rendered(screen: Screen, width: int = 160, height: int = 24) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(screen.render(width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_screen(line: Line) -> None:
    screen = Screen(line.endpoint)
    assert f"waiting for the daemon at {line.endpoint}" in rendered(screen)
    with Results(line.endpoint) as subscriber:
        connected(subscriber)
        why = Judgement(Verdict.UNKNOWN, Reason.UNDECIDED, (region(0.5),) * 3, detail="in doubt: spot")
        for n, judgement in enumerate([PASS] * 20 + [FAIL, why], 1):
            line.put(frame(n, slot=0), judgement)
        for one in results(subscriber, 22):
            screen.take(one)
        screen.take(connected(subscriber))
    shown = rendered(screen)
    assert "PASS 20  FAIL 1  UNKNOWN 1   ContinuousExecution, inspecting" in shown
    assert f"line a at {line.endpoint}: recipe " in shown and "model toy on the engine" in shown
    assert "in doubt: spot; spot 0.50 at 8,8 16x16, spot 0.50 at 8,8 16x16 +1" in shown
    for height in (24, 12, 60):
        lines = rendered(screen, height=height).splitlines()
        assert len(lines) == height and sum("top" in text for text in lines) == min(22, height - 3)
    screen.take(Missed(23, 25))
    screen.take(Silence(3.0))
    assert f"SILENT: nothing heard of the daemon at {line.endpoint} for 3 s" in rendered(screen)
    screen.take(Received(HEADER, RESULT))
    assert "MISSING 3" in rendered(screen)
    assert "SILENT" not in rendered(screen)
    assert isinstance(screen.beat, object)
    assert not isinstance(screen.beat, Beat)


def test_a_range_of_parts(line: Line) -> None:
    screen = Screen(line.endpoint)
    with Results(line.endpoint) as subscriber:
        connected(subscriber)
        line.put(gap(7, 1000), unknown(Reason.LOST))
        (one,) = results(subscriber, 1)
    screen.take(one)
    assert one.result.parts == 1000 and row_of(one).part == "7-1006"
    assert "  7-1006  UNKNOWN " in rendered(screen) and "  lost" in rendered(screen)
    assert screen.verdicts[Verdict.UNKNOWN] == 1000
    found = json.loads(as_json(one))
    assert (found["part_id"], found["last_part_id"]) == (7, 1006)


def unknown_of(camera: str = "top", **fields: Any) -> Received:
    result = msgspec.structs.replace(RESULT, camera=camera, **fields)
    return Received(HEADER._replace(seq=7654321), result)


def beat(detail: str) -> Heartbeat:
    return Heartbeat(
        line="a", state="Preoperational", detail=detail, last_seq=1, recipe=RESULT.recipe,
        model=RESULT.model, engine="x" * 99, cameras={}, journal="ok", version="0",
    )  # fmt: skip


@pytest.mark.parametrize("camera", ["top", "c" * 32])
@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_nothing_is_cut_off_on_any_terminal(camera: str, width: int) -> None:
    received = unknown_of(camera, part_id=1234567, regions=RESULT.regions * 2)
    screen = Screen("ipc://e")
    screen.beat = beat("a long story " * 5)
    for _ in range(20):
        screen.take(received)
    lines = rendered(screen, width, 40).splitlines()
    assert len(lines) == 40 and all(len(text) <= width for text in lines)
    said = " ".join(" ".join(lines).split())
    row = row_of(received)
    if width >= 80:  # else the columns alone are wider
        assert lines[0].split() == ["time", "seq", "camera", "part", "frame", "verdict", "ms"]
        shown = lines[1].split()[:7]
        assert shown[:2] + shown[3:] == [*row[:2], *row[3:7]]
        assert shown[2] == row.camera or (width == 80 and row.camera.startswith(shown[2].rstrip("…")))
    assert all(word in said for word in row.text.split())
    assert ("a long story " * 5).strip() in said


def test_columns_never_move_back() -> None:
    screen = Screen("ipc://e")
    screen.take(unknown_of(part_id=12345678, frame_id=12345678))
    before = rendered(screen).splitlines()[0]
    for n in range(30):
        screen.take(unknown_of(part_id=n, frame_id=n))
    assert rendered(screen).splitlines()[0] == before and "frame" not in before
    screen.take(unknown_of(part_id=1, frame_id=2))
    assert "  frame  " in rendered(screen).splitlines()[0], "part and frame differ from now on"


def test_what_stands_beside_a_pass_is_explained() -> None:
    screen = Screen("ipc://e")
    screen.take(unknown_of(verdict=Verdict.PASS, reason=Reason.NONE, regions=()))
    assert "beside a PASS" not in rendered(screen)
    screen.take(unknown_of(verdict=Verdict.PASS, reason=Reason.NONE))
    assert "A region beside a PASS is one that the limits of the recipe allow." in rendered(screen)


def test_part_ref_is_shown_and_can_not_steer_the_terminal() -> None:
    screen = Screen("ipc://e")
    screen.take(unknown_of(part_ref="A-4711\x1b[2J"))
    shown = rendered(screen)
    assert "part_ref A-4711" in shown and "\x1b" not in shown


def test_a_daemon_that_was_never_heard() -> None:
    screen, quiet = Screen("tcp://127.0.0.1:7"), Quiet("tcp://127.0.0.1:7")
    screen.take(Silence(5.2))
    said = " ".join(rendered(screen, 80).split())
    assert f"5 s: {what_to_check('tcp://127.0.0.1:7')}" in said
    words = [quiet.words(Silence(float(s))) for s in range(1, 80)]
    assert words[:4] == [f"silence: nothing heard of the daemon for {s}.0 s" for s in range(1, 5)]
    assert words[4] == what_to_check("tcp://127.0.0.1:7") == words[64] and set(words[5:64]) == {""}
    quiet.heard = True
    assert quiet.words(Silence(130.0)) == "silence: nothing heard of the daemon for 130.0 s at tcp://127.0.0.1:7"


def test_a_foreign_message_is_told_and_watching_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    class Odd(Results):
        def __init__(self) -> None:
            self.events = iter([WireError("odd"), Received(HEADER, RESULT)])

        def receive(self, timeout_s: float) -> Event | None:
            event = next(self.events)
            if isinstance(event, WireError):
                raise event
            return event

    _print(Odd(), "ipc://e", 1, as_json)
    out, err = capsys.readouterr()
    assert "FAIL" in out and err == "foreign message: odd\n"
    _live(Odd(), "ipc://e", 1)
    assert "foreign message: odd" in capsys.readouterr().out


@pytest.mark.parametrize(
    "endpoint", ["foo", "tcp://127.0.0.1", "ipc://", "", "tcp://x:y", "ipc://" + "x" * 200, "\ud800"]
)
def test_an_endpoint_that_is_none_is_one_sentence(endpoint: str) -> None:
    with pytest.raises(UserError, match=r"^can't connect to .*; an endpoint looks like tcp://127"):
        watch(endpoint, 1, True)
