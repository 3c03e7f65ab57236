"""Reading the files anew while the line runs (SIGHUP): all of them are checked before anything of them is taken.

What is wrong anywhere leaves all as it was. Keys of clients, and which recipes there are, are taken at once. What
parts are judged by changes by a command alone: `select` reads the recipe's file. All else takes a restart, and is
named.
"""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from inspectd.publish.security import Security, read_keyring
from inspectd.runtime.background import in_background
from inspectd.runtime.errors import ConfigError
from inspectd.runtime.handoff import Handoff
from inspectd.settings.config import Settings, load
from inspectd.settings.differences import differences
from inspectd.settings.fit import read_recipe
from inspectd.settings.recipe import LoadedRecipe
from inspectd.steer.line import RunningLine
from inspectd.steer.recipes import check_recipes
from inspectd.steer.setup import slot_sizes

log = structlog.get_logger()
MOST_TOLD = 20
"""Most problems that are logged one by one."""
Recipes = tuple[LoadedRecipe, ...]


class _Found(NamedTuple):
    """What is on the disk now, all of it sound."""

    recipes: Recipes
    """What may be selected now."""
    restart: Sequence[str]
    """What takes a restart, a sentence each."""


class Reloading:
    """Reads config, recipes and keys anew whenever it is asked to, in a helper thread. For the main thread."""

    def __init__(
        self,
        asked: Handoff[str],
        settings: Settings,
        line: RunningLine,
        security: Security,
        offer: Callable[[Recipes], None],
    ) -> None:
        """asked: filled by a signal handler. offer: called with the recipes that may be selected from then on."""
        self._asked, self._settings, self._line = asked, settings, line
        self._security, self._offer = security, offer
        self._recipes = settings.recipes
        self._wanted = False
        self._thread: threading.Thread | None = None
        self._found: _Found | None = None

    def fileno(self) -> int:
        """What the main thread polls: readable when somebody asks."""
        return self._asked.fileno()

    def step(self) -> None:
        """Begin to read what was asked for, or take what was found; never blocks."""
        self._wanted = bool(list(self._asked.drain())) or self._wanted
        if self._thread is not None and not self._thread.is_alive():
            self._thread = None
            if self._found is not None:
                self._take(self._found)
        if self._wanted and self._thread is None:
            self._wanted, self._found = False, None
            self._thread = threading.Thread(target=self._read, name="reload", daemon=True)
            self._thread.start()

    def _read(self) -> None:
        try:
            with in_background():
                self._found = self._anew()
        except ConfigError as error:
            for problem in error.problems[:MOST_TOLD]:
                log.error(problem)
            log.error("what is on the disk is refused: all stays as it was", problems=len(error.problems))
        except Exception as error:
            log.error("config, recipes and keys can't be read anew: all stays as it was", exc_info=error)

    def _anew(self) -> _Found:
        """Read and check everything; take the keys last, which is whole or not at all. Raises ConfigError."""
        now, new = self._settings, load(self._settings.path)
        check_recipes(new)
        restart = [f"{what}: needs a restart" for what in differences(now.config, new.config)]
        recipes: Recipes = new.recipes
        if restart:
            try:
                recipes = tuple(read_recipe(recipe.path, now.cameras) for recipe in new.recipes)
                check_recipes(now._replace(recipes=recipes))
            except ConfigError:  # they are for the cameras to come
                recipes = self._recipes
                restart.append("recipes: what may be selected stays, as it fits the changed config only")
        if recipes is not self._recipes:
            restart += self._too_large(now._replace(recipes=recipes))
        self._read_keys(new, restart)
        return _Found(recipes, restart)

    def _too_large(self, offered: Settings) -> list[str]:
        """Recipes whose pictures find no room in the slots that were made at the start."""
        rooms = [ring.slot_bytes for ring in self._line.setup.rings]
        return [
            f"recipe {recipe.id}: its pictures are larger than there is room for: needs a restart"
            for recipe in offered.recipes
            if any(
                a > b for a, b in zip(slot_sizes(offered._replace(recipe=recipe, recipes=())), rooms, strict=True)
            )
        ]

    def _read_keys(self, new: Settings, restart: list[str]) -> None:
        before, after = self._settings.config.publish, new.config.publish
        if before.server_key != after.server_key or before.client_keys != after.client_keys:
            read_keyring(after)  # they are to be used at the next start
        elif self._security.reload():
            restart.append("publish.server_key: the file holds another key: needs a restart")

    def _take(self, found: _Found) -> None:
        self._offer(found.recipes)
        known = {recipe.id: recipe.revision for recipe in self._recipes}
        in_use = self._line.setup.recipe
        known[in_use.id] = in_use.revision
        self._recipes = found.recipes
        for recipe in found.recipes:
            if known.get(recipe.id, recipe.revision) != recipe.revision:
                log.info(
                    f"recipe {recipe.id} was changed: it is used once it is selected", revision=recipe.revision
                )
        if in_use.id not in [recipe.id for recipe in found.recipes]:
            log.warning(f"recipe {in_use.id} is in use and no longer in the config: the next start will be held")
        for what in found.restart:
            log.warning(what)
        log.info("config, recipes and keys read anew", recipes=", ".join(recipe.id for recipe in found.recipes))
