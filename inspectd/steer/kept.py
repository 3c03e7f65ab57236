"""The selection in force, in the audit log and on the disk for the next start.

A change is written down (`audit.jsonl`), then kept (`selection.json`), then takes effect.
"""

from pathlib import Path

import structlog

from inspectd.publish.control import Asked
from inspectd.publish.security import name_of
from inspectd.runtime.durable import UnwritableError
from inspectd.runtime.steps import Steps, at_once, on_disk
from inspectd.steer.audit import Audit, Change
from inspectd.steer.selection import Selection, keep_selection

log = structlog.get_logger()


class Kept:
    """What is selected now, and its copies on the disk. For the main thread; any thread may read `selection`.

    What waits for the disk is in steps.
    """

    def __init__(self, state_dir: Path, selection: Selection) -> None:
        self.selection = selection
        """The one in force."""
        self._state_dir, self._audit = state_dir, Audit(state_dir / "audit.jsonl")
        self._on_disk: Selection | None = selection  # None: not known
        if selection.failed:  # found at this start, maybe: the next one must be held for it as well
            self._on_disk = None
            at_once(self.try_to_keep())  # nothing runs yet

    def check(self) -> Steps[None]:
        """Raise UnwritableError if a change could not be written down now."""
        yield from on_disk(self._audit.check)

    def commit(self, asked: Asked, old: object, new: object, selection: Selection) -> Steps[None]:
        """Write a change down and keep it; raises UnwritableError, and then it must not happen."""
        yield from on_disk(lambda: self._audit.write(entry_of(asked, old, new, "done")))
        try:
            yield from self._keep(selection)
        except UnwritableError as error:
            yield from self.note(asked, old, new, f"failed: {error}")
            raise

    def try_to_keep(self) -> Steps[str]:
        """Keep what is in force in any case; the next change tries again where that fails.

        Returns why it failed, empty if it did not.
        """
        try:
            yield from self._keep(self.selection)
        except UnwritableError as error:
            log.error(str(error))
            return str(error)
        return ""

    def note(self, asked: Asked, old: object, new: object, outcome: str) -> Steps[str]:
        """Write down what happens in any case. Returns why that failed, empty if it did not."""
        try:
            yield from on_disk(lambda: self._audit.write(entry_of(asked, old, new, outcome)))
        except UnwritableError as error:
            log.error(str(error))
            return str(error)
        return ""

    def _keep(self, selection: Selection) -> Steps[None]:
        """Put a selection in force once it is on the disk; raises UnwritableError."""
        if selection != self._on_disk:
            self._on_disk = None
            yield from on_disk(lambda: keep_selection(self._state_dir, selection))
        self.selection = self._on_disk = selection


def who(asked: Asked) -> str:
    """Who asked, for people: the name that the client gives itself, and that of its key."""
    user, client = asked.client
    return f"{client} ({name_of(user)})" if user else client


def entry_of(asked: Asked, old: object, new: object, outcome: str) -> Change:
    """The audit log's entry for a request."""
    user, client = asked.client
    verb = str(asked.request.__struct_config__.tag)
    return Change(name_of(user) or "local", client, asked.request.id, verb, old, new, outcome)
