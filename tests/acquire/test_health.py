"""How a camera is, by what its process says; the clock is the test's."""

import pytest

from inspectd.acquire import health
from inspectd.acquire.health import AGAIN_S, SETTLED_S, UNUSABLE, Health
from inspectd.settings.camera import SimCamera


class Time:
    """The monotonic clock, set by hand."""

    def __init__(self) -> None:
        self.ns = 10**12

    def __call__(self) -> int:
        return self.ns

    def pass_s(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(health, "now_ns", made)
    return made


def camera(trigger: str) -> Health:
    made = Health(SimCamera(name="top", width=64, height=64, folder="x", trigger=trigger))  # type: ignore[arg-type]
    made.streams("toy")
    return made


def test_a_camera_that_answers_but_never_sends_stays_dead_until_a_frame_comes(time: Time) -> None:
    one = camera("free_run")
    states = []
    for _ in range(40):  # as it is restarted and connected again and again
        one.trouble("it has sent no frame", is_silent=True)
        states.append(one.state)
        one.streams("toy")
        for _ in range(4):
            one.idle()
            time.pass_s(0.25)
            states.append(one.state)
    assert set(states) == {"dead"} and one.detail == "it has sent no frame"
    one.frame()
    assert (one.state, one.detail) == ("streaming", "toy")


def test_a_triggered_camera_is_well_when_no_frame_was_missed_for_a_while(time: Time) -> None:
    one = camera("line")
    one.trouble("no frames come", is_silent=True)
    one.streams("toy")
    one.idle()
    assert one.state == "dead"
    time.pass_s(SETTLED_S)
    one.idle()
    assert (one.state, one.detail) == ("idle", "toy")


def test_a_camera_that_was_unplugged_is_well_when_it_is_back(time: Time) -> None:
    one = camera("line")
    one.trouble("the camera was lost", is_silent=False)
    assert one.state == "dead"
    one.streams("toy")
    assert (one.state, one.detail) == ("streaming", "toy")


def test_a_camera_whose_frames_are_all_unusable_says_so_once(
    time: Time, capsys: pytest.CaptureFixture[str]
) -> None:
    one = camera("line")
    for _ in range(5 * UNUSABLE):
        one.frame("only a part of the frame arrived")
        one.idle()
    assert one.detail == "every frame is unusable: only a part of the frame arrived"
    assert capsys.readouterr().out.count("every frame is unusable") == 1
    one.frame()
    assert one.detail == "toy"


def test_the_same_trouble_is_logged_once_in_a_while(time: Time, capsys: pytest.CaptureFixture[str]) -> None:
    one = camera("line")
    for _ in range(50):
        one.trouble("the camera does not answer", is_silent=False)
        one.streams("toy")
        time.pass_s(AGAIN_S / 40)
    assert capsys.readouterr().out.count("the camera does not answer") == 2


def test_trouble_that_differs_in_its_numbers_alone_is_the_same(
    time: Time, capsys: pytest.CaptureFixture[str]
) -> None:
    """A counter that says anything: one line for each of its values would fill the log."""
    one = camera("line")
    for n in range(400):
        one.frame(f"the camera's counter went from {n} to {n * 7919}")
        time.pass_s(AGAIN_S / 200)
    assert capsys.readouterr().out.count("every frame is unusable") == 2
    assert one.detail.endswith(f"from 399 to {399 * 7919}")
