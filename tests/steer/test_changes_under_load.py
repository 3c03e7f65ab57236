"""A hundred changes of model and recipe while parts go by: none without a result, none judged by half a model."""

import json
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from inspectd.runtime.frame import Reason
from inspectd.runtime.image_files import read_image, write_png
from inspectd.subscribe import Control, Missed, NewEpoch, Received, RefusedError, Results
from tests.bundles import write_bundle
from tests.engine.test_bundle import rehash
from tests.lines import HEIGHT, WIDTH, Line, camera_process_of, stop

SHIPPED = Path(__file__).parents[2] / "models/ballscrew"


def small_models(line: Line) -> str:
    """The line's own model, and one that differs in name; gives the camera."""
    write_bundle(line.folder / "other")
    return "acquisition_frame_rate_hz = 40.0\nspare_slots = 8"


def shipped_models(line: Line) -> str:
    """The shipped model under two names, at twice the shipped rate; gives the camera."""
    shutil.rmtree(line.folder / "dark")
    for name in ("dark", "other"):
        shutil.copytree(SHIPPED, line.folder / name)
        manifest = line.folder / name / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"ballscrew"', f'"{name}"', 1))
    shutil.rmtree(line.images)
    line.images.symlink_to(SHIPPED / "parts")
    return "acquisition_frame_rate_hz = 20.0\nspare_slots = 8"


def two_recipes(line: Line, camera: str) -> None:
    """Told apart by their revision."""
    for name in ("strict", "lax"):
        text = (line.folder / "dark/recipe.toml").read_text().replace('model = "."', 'model = "dark"')
        (line.folder / f"{name}.toml").write_text(text + f"# {name}\n")
    line.write(camera)
    text = line.config.read_text()
    if line.images.is_symlink():
        text = text.replace(f"width = {WIDTH}\nheight = {HEIGHT}", "width = 512\nheight = 384")
    line.config.write_text(text.replace('["dark/recipe.toml"]', '["strict.toml", "lax.toml"]'))


class Held(NamedTuple):
    """What a process holds."""

    kib: int
    threads: int
    fds: int


def held_by(pid: int) -> Held:
    fields = dict(text.split(":", 1) for text in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Held(int(fields["RssAnon"].split()[0]), int(fields["Threads"]), len(os.listdir(f"/proc/{pid}/fd")))


PROOF = [pytest.mark.proof, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("models", "changes"),
    [
        (small_models, 6),
        pytest.param(small_models, 200, marks=PROOF),
        pytest.param(shipped_models, 100, marks=PROOF),
    ],
)
@pytest.mark.alone
def test_changes_under_load(line: Line, models: Callable[[Line], str], changes: int) -> None:
    two_recipes(line, models(line))
    daemon = line.start()
    received: list[Received] = []
    loading: list[tuple[int, int]] = []
    starts: list[tuple[int, str, str]] = [(1, "strict", "dark")]
    held: list[Held] = []
    with Results(line.endpoint, start="oldest") as results, Control(f"ipc://{line.folder}/control", "test") as ctl:
        gather(results, received, lambda: len(received) > 40)
        for n in range(changes):
            began_ns = time.time_ns()
            if n % 2:
                told = ctl.request("select_recipe", recipe=("strict", "lax")[n // 2 % 2])
            else:
                told = ctl.request("swap_model", model=("other", "dark")[n // 2 % 2])
            loading.append((began_ns, time.time_ns()))
            starts.append((told["first_part_ids"]["top"], told["recipe"]["id"], told["model"]["name"]))
            wanted = len(received) + 20
            gather(results, received, lambda wanted=wanted: len(received) >= wanted)
            if n >= changes // 5:
                held.append(held_by(daemon.pid))
        assert camera_process_of(daemon) is not None
        assert stop(daemon) == 0, line.log
        gather(results, received, lambda: False, 1.5)
    assert [one.result.part_id for one in received] == list(range(1, len(received) + 1))
    for one in received:
        _, recipe, model = max(start for start in starts if start[0] <= one.result.part_id)
        assert (one.result.recipe.id, one.result.model.name) == (recipe, model)
        assert one.result.reason in (Reason.NONE, Reason.DEFECT, Reason.UNDECIDED), one  # no deadline missed
    assert models is shipped_models or Reason.UNDECIDED not in {one.result.reason for one in received}
    kib = [one.kib for one in held]
    assert max(kib[-3:]) - min(kib[:3]) < 8 * 1024
    assert not_grown(held), held
    report(received, loading, kib)


def not_grown(held: list[Held]) -> bool:
    """Threads and descriptors are as many in the end; but for those of a backend that is being closed."""
    counts = [(one.threads, one.fds) for one in held]
    return all(min(of[-5:]) <= min(of[:5]) for of in zip(*counts, strict=True))


@pytest.mark.parametrize("changes", [12, pytest.param(200, marks=PROOF)])
def test_changes_that_fail_or_stop_the_camera_leave_nothing_behind(line: Line, changes: int) -> None:
    """Models that are missing, damaged or fail their golden test; and a camera process for each other region."""
    two_recipes(line, "acquisition_frame_rate_hz = 20.0\nspare_slots = 8")
    recipe = line.folder / "lax.toml"
    recipe.write_text(recipe.read_text() + "[camera.top]\nroi = [32, 32, 96, 80]\n")
    for name in ("damaged", "lies"):
        write_bundle(line.folder / name)
    (line.folder / "damaged/model.onnx").write_bytes(b"?")
    scores = line.folder / "lies/golden/0.scores.png"
    write_png(scores, read_image(scores) // 2)
    rehash(line.folder / "lies")
    daemon = line.start()
    held: list[Held] = []
    with Control(f"ipc://{line.folder}/control", "test") as ctl:
        while "ready" not in line.log:
            assert daemon.poll() is None, line.log
            time.sleep(0.05)
        for n in range(changes):
            if n % 4 == 3:
                told = ctl.request("select_recipe", recipe=("lax", "strict")[n // 4 % 2])
                assert told["stopped"] == ["top"]
                held.append(held_by(daemon.pid))
                continue
            with pytest.raises(RefusedError, match="the model was not swapped"):
                ctl.request("swap_model", model=("damaged", "lies", "nowhere")[n % 4])
        assert not_grown(held), held
        assert held[-1].kib - held[0].kib < 8 * 1024
        assert stop(daemon, timeout_s=60) == 0, line.log
    print(held[0], held[-1])


def gather(results: Results, received: list[Received], enough, seconds: float = 30) -> None:
    end_s = time.monotonic() + seconds
    while not enough() and time.monotonic() < end_s:
        event = results.receive(0.1)
        assert not isinstance(event, Missed | NewEpoch)
        if isinstance(event, Received):
            received.append(event)


def report(received: list[Received], loading: list[tuple[int, int]], kib: list[int]) -> None:
    """What `pytest -s` shows: from trigger to hand-over to the socket, while a change is prepared and else."""
    spans_ms: dict[bool, list[float]] = {True: [], False: []}
    for one in received:
        trigger_ns = one.result.times.trigger_utc_ns
        spans_ms[any(a <= trigger_ns <= b for a, b in loading)].append(one.result.times.publish_us / 1e3)
    shown = {"changes": len(loading), "results": len(received), "rss_anon_kib": [kib[0], kib[-1]]}
    shown["change_s"] = round(statistics.median((b - a) / 1e9 for a, b in loading), 2)  # type: ignore[assignment]
    for loads, name in ((False, "steady"), (True, "loading")):
        ordered = sorted(spans_ms[loads])
        shown[f"{name}_ms"] = [round(ordered[int(len(ordered) * q)], 1) for q in (0.5, 0.99)]
    print(json.dumps(shown))
