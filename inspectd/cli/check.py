"""`inspectd check`: config, recipes, models, keys and cameras, looked at as the daemon would."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspectd.cli.options import DEFAULT_CONFIG, ConfigOption
from inspectd.runtime.errors import CameraError, UnavailableError
from inspectd.settings import config

if TYPE_CHECKING:
    from inspectd.acquire.protocol import Job
    from inspectd.engine.bundle import Manifest
    from inspectd.settings.config import Settings


def check(path: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check config, all recipes with their models, keys and cameras, without starting anything."""
    from inspectd.publish.security import read_keyring
    from inspectd.steer.recipes import check_recipes
    from inspectd.steer.setup import make_jobs, slot_sizes

    settings = config.load(path)
    manifests = check_recipes(settings)
    sizes = slot_sizes(settings)
    jobs = [
        make_jobs(settings, recipe, manifest.channels, sizes)
        for recipe, manifest in zip(settings.recipes, manifests, strict=True)
    ]
    print(f"{path}: line {settings.config.line}, recipe {settings.recipe.id} {settings.recipe.revision}")
    for recipe in settings.recipes[1:]:
        print(f"{recipe.path}: recipe {recipe.id} {recipe.revision}")
    _check_models(settings, manifests, jobs)
    if keyring := read_keyring(settings.config.publish):
        names = {domain: ", ".join(sorted(keys.values())) for domain, keys in keyring.clients.items()}
        print(f"keys: may read: {names['read'] or 'nobody'}; may control: {names['control'] or 'nobody'}")
    missing: list[str] = []
    for index in range(len(settings.config.camera)):
        missing += _check_camera(
            [(recipe.id, of[index]) for recipe, of in zip(settings.recipes, jobs, strict=True)]
        )
    if missing:
        raise CameraError("\n".join(missing))


def _check_models(settings: Settings, manifests: list[Manifest], jobs: list[list[Job]]) -> None:
    """Try each bundle once, for the pictures of all recipes that use it."""
    from inspectd.engine import outlook
    from inspectd.engine.bundle import load_bundle
    from inspectd.steer.recipes import need_restart

    folders = [recipe.model_dir for recipe in settings.recipes]
    for folder in dict.fromkeys(folders):
        bundle = load_bundle(folder)
        shapes = [job.shape for own, of in zip(folders, jobs, strict=True) if own == folder for job in of]
        print(f"{bundle.path}: model {bundle.manifest.name}, {outlook(settings.config.engine, bundle, shapes)}")
    for name in need_restart(settings, manifests, settings.recipe, manifests[0]):
        print(f"recipe {name}: takes a restart on the GPU, it can't be selected while the line runs")


def _check_camera(jobs: list[tuple[str, Job]]) -> list[str]:
    """Open a camera under each recipe that wants other features, region or format of it; gives what is wrong.

    jobs: the camera's, with the ids of their recipes, that of the start first.
    """
    from inspectd.acquire.survey import Opening, ask
    from inspectd.runtime.ring import check_memory

    name, problems = jobs[0][1].config.name, []
    different = [
        (r, job) for i, (r, job) in enumerate(jobs) if _wishes(job) not in [_wishes(j) for _, j in jobs[:i]]
    ]
    for i, (recipe, job) in enumerate(different):
        under = f", recipe {recipe}" if i else ""
        try:
            check_memory(job.slots, job.shape, name, job.slot_bytes)
            (found,) = ask(Opening(job))
        except CameraError as error:
            problems.append(f"camera {name}{under}: {error}")
        except UnavailableError as error:
            problems.append(str(error))
        else:
            print(f"camera {name}{under}: {found['device']}")
            for caveat in found["caveats"] if not i else ():
                print(f"camera {name}: note: {caveat}")
        if problems and not i:
            break  # it is not there
    return problems


def _wishes(job: Job) -> tuple[object, ...]:
    return job.features, job.rect, job.channels
