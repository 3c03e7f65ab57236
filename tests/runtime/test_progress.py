"""The progress of the stages: which of them is stuck."""

from inspectd.runtime.progress import STUCK_S, Progress


def test_a_stage_that_does_not_turn_is_named() -> None:
    progress = Progress(["engine", "judge"])
    assert progress.stuck() == ""
    progress._stamps["judge"] -= int((STUCK_S + 1) * 1e9)
    assert progress.stuck() == "judge for 4.0 s"
    progress.stamp("judge")
    assert progress.stuck() == ""
