"""`inspectd check`: config, recipes, models, keys and cameras, looked at as the daemon would."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from inspectd.cli.options import DEFAULT_CONFIG, ConfigOption
from inspectd.runtime.errors import CameraError, UnavailableError, UserError
from inspectd.settings import config
from inspectd.settings.camera import GentlCamera

if TYPE_CHECKING:
    from inspectd.acquire.protocol import Job
    from inspectd.engine.bundle import Manifest
    from inspectd.settings.config import Settings


def check(
    path: ConfigOption = DEFAULT_CONFIG,
    no_cameras: Annotated[bool, typer.Option("--no-cameras", help="Don't open the cameras.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Let a warning be a failure: exit code 1.")] = False,
) -> None:
    """Check config, all recipes with their models, keys and cameras, without starting anything."""
    from inspectd.publish.security import read_keyring
    from inspectd.steer.doubts import doubts
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
    warnings = [*doubts(settings, manifests), *_check_models(settings, manifests, jobs)]
    if keyring := read_keyring(settings.config.publish):
        names = {domain: ", ".join(sorted(keys.values())) for domain, keys in keyring.clients.items()}
        print(f"keys: may read: {names['read'] or 'nobody'}; may control: {names['control'] or 'nobody'}")
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if not no_cameras and (missing := _check_cameras(settings, jobs)):
        raise CameraError("\n".join(missing))
    if warnings and strict:
        raise UserError(f"{len(warnings)} warning{'s' * (len(warnings) > 1)}, and --strict lets none pass")


def _check_models(settings: Settings, manifests: list[Manifest], jobs: list[list[Job]]) -> list[str]:
    """Try each bundle once, for the pictures of all recipes that use it; gives warnings."""
    from inspectd.cli.engine_time import too_late
    from inspectd.engine import outlook
    from inspectd.engine.bundle import load_bundle
    from inspectd.steer.recipes import need_restart

    warnings: list[str] = []
    folders = [recipe.model_dir for recipe in settings.recipes]
    for folder in dict.fromkeys(folders):
        bundle = load_bundle(folder)
        own = [i for i, other in enumerate(folders) if other == folder]
        shapes = [job.shape for i in own for job in jobs[i]]
        print(f"{bundle.path}: model {bundle.manifest.name}, {outlook(settings.config.engine, bundle, shapes)}")
        using = [(settings.recipes[i], [job.shape for job in jobs[i] if _has_room(job)]) for i in own]
        warnings += too_late(settings.config.engine, bundle, using)
    for name in need_restart(settings, manifests, settings.recipe, manifests[0]):
        print(f"recipe {name}: takes a restart on the GPU, it can't be selected while the line runs")
    return warnings


def _check_cameras(settings: Settings, jobs: list[list[Job]]) -> list[str]:
    """Look at the cameras that nobody else has; gives what is wrong, sentence by sentence. jobs: by recipe."""
    from inspectd.runtime.locks import held_by

    daemon = held_by(settings.state_dir / "lock")
    taken = [c.name for c in settings.config.camera if daemon and isinstance(c, GentlCamera)]
    problems: list[str] = []
    for index, camera in enumerate(settings.config.camera):
        if camera.name not in taken:
            problems += _check_camera(
                [(recipe.id, of[index]) for recipe, of in zip(settings.recipes, jobs, strict=True)]
            )
    if taken:
        problems.append(
            f"the daemon of line {settings.config.line} (process {daemon}) has the cameras open "
            f"({', '.join(taken)}): check everything else with --no-cameras, or stop it first"
        )
    return problems


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


def _has_room(job: Job) -> bool:
    """Whether there is memory for a camera's pictures; `_check_camera` tells of it."""
    from inspectd.runtime.ring import check_memory

    try:
        check_memory(job.slots, job.shape, job.config.name, job.slot_bytes)
    except UnavailableError:
        return False
    return True


def _wishes(job: Job) -> tuple[object, ...]:
    return job.features, job.rect, job.channels
