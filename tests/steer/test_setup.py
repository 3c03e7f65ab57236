"""What a line gets ready for a change of recipe or model."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from inspectd.engine.bundle import load_bundle
from inspectd.runtime.errors import ConfigError, UserError
from inspectd.runtime.ring import Ring, create
from inspectd.settings import config
from inspectd.settings.config import Settings
from inspectd.settings.engine import TensorRtEngine
from inspectd.steer.backends import Backends
from inspectd.steer.setup import Setup, changed_cameras, first_jobs, next_setup, open_setup, slot_sizes
from tests.bundles import write_bundle
from tests.lines import HEIGHT, WIDTH, Line

LIMITS = "[limits.spot]\nsuspect = 0.4\nreject = 0.6\n"


class Bench:
    """The setup of a start, and what it takes to make the next one."""

    def __init__(self, line: Line) -> None:
        write_bundle(line.folder / "other")
        for name, model, more in (
            ("limits", "dark", ""),
            ("swapped", "other", ""),
            ("cut", "dark", "[camera.top]\nroi = [0, 0, 64, 64]\n"),
            ("misfit", "dark", "[limits.dent]\nsuspect = 0.4\nreject = 0.6\n"),
        ):
            (line.folder / f"{name}.toml").write_text(f'model = "{model}"\ndeadline_ms = 100\n{LIMITS}{more}')
        text = line.config.read_text()
        names = '"dark/recipe.toml", "limits.toml", "swapped.toml", "cut.toml", "misfit.toml"'
        line.config.write_text(text.replace('"dark/recipe.toml"', names))
        self.settings: Settings = config.load(line.config)
        self.recipes = {recipe.id: recipe for recipe in self.settings.recipes}
        bundle = load_bundle(self.settings.recipe.model_dir)
        (job,) = first_jobs(self.settings, bundle)
        self.ring: Ring = create(job.slots, job.shape, "test", job.slot_bytes)
        self.backends = Backends()
        self.now: Setup = open_setup(self.settings, bundle, [self.ring], self.backends)

    def next(self, name: str, settings: Settings | None = None) -> Setup:
        return next_setup(2, settings or self.settings, self.recipes[name], self.now, self.backends)


@pytest.fixture
def bench(line: Line) -> Iterator[Bench]:
    made = Bench(line)
    yield made
    made.now.backend.close()
    os.close(made.ring.fd)


def test_the_settings_hold_every_recipe(bench: Bench) -> None:
    assert list(bench.recipes) == ["dark", "limits", "swapped", "cut", "misfit"]
    assert bench.settings.recipe is bench.settings.recipes[0]


def test_other_limits_use_the_engine_on(bench: Bench) -> None:
    new = bench.next("limits")
    assert new.backend is bench.now.backend and new.rings is bench.now.rings and new.number == 2
    assert (new.deadline_ns, bench.now.deadline_ns) == (100_000_000, 2_000_000_000)
    assert changed_cameras(new, bench.now) == []


def test_another_model_and_another_region_get_an_engine_of_their_own(bench: Bench) -> None:
    swapped, cut = bench.next("swapped"), bench.next("cut")
    assert swapped.names.model.name == "other" and changed_cameras(swapped, bench.now) == []
    assert cut.rings[0].shape == (64, 64, 3) and changed_cameras(cut, bench.now) == [0]
    assert cut.jobs[0].slot_bytes == bench.ring.slot_bytes == WIDTH * HEIGHT * 3
    assert len({id(setup.backend) for setup in (bench.now, swapped, cut)}) == 3
    swapped.backend.close()
    cut.backend.close()


def test_a_recipe_that_does_not_fit_the_model_leaves_nothing_open(bench: Bench) -> None:
    before = threading.active_count()
    with pytest.raises(ConfigError, match=r"misfit.toml:6:9: limits.dent: .*dent"):
        bench.next("misfit")
    assert threading.active_count() == before


def test_on_a_gpu_only_what_is_judged_by_may_change(bench: Bench) -> None:
    gpu = bench.settings._replace(config=structs.replace(bench.settings.config, engine=TensorRtEngine()))
    for name in ("swapped", "cut"):
        with pytest.raises(UserError, match=f"{name}.toml: .*GPU.*restart the daemon"):
            bench.next(name, gpu)


def test_slots_have_room_for_the_largest_recipe(bench: Bench) -> None:
    assert slot_sizes(bench.settings) == [WIDTH * HEIGHT * 3]
    cut = bench.recipes["cut"]
    assert slot_sizes(bench.settings._replace(recipe=cut, recipes=(cut,))) == [64 * 64 * 3]


def test_a_model_that_cant_be_read_is_said_at_the_start(line: Line, bench: Bench) -> None:
    manifest = line.folder / "other/manifest.json"
    manifest.write_text(json.dumps({"schema": 7}))
    with pytest.raises(ConfigError, match=r"swapped.toml: model: .*has schema 7"):
        slot_sizes(bench.settings)
    Path(line.folder / "limits.toml").write_text("")
    with pytest.raises(ConfigError):
        config.load(line.config)
