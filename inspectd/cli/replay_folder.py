"""What `inspectd replay` does: judge a folder, a line for each picture, then the sum."""

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from inspectd.cli.inspector import Inspector
from inspectd.cli.replay_overlay import overlay
from inspectd.extract.plan import Plan
from inspectd.judge.verdict import counts
from inspectd.runtime.errors import ConfigError, UserError
from inspectd.runtime.frame import Judgement, Reason, Region, Verdict
from inspectd.runtime.image_files import image_files, shown_name, write_png
from inspectd.runtime.left_out import left_out
from inspectd.settings.recipe import View

CSV_COLUMNS = ("image", "verdict", "reason", "detail", "regions", "class", "score", "area_px", "length_px", "zone")
"""The last five are of the region with the highest score."""


class Replayed(msgspec.Struct, frozen=True):
    """One image's line of `replay --json`."""

    image: str
    verdict: Verdict
    reason: Reason
    detail: str
    regions: tuple[Region, ...]
    file: str
    """The same as `image`, as it was called before."""


class Outputs(NamedTuple):
    """What is written, and where."""

    json: bool
    """Whether the lines are JSON."""
    csv: Path | None
    overlay: Path | None
    """Folder for one PNG per picture."""


def replay_folder(folder: Path, inspector: Inspector, view: View, outputs: Outputs) -> None:
    """Print a line for every picture of the folder, in name order, then (to stderr) the sum.

    Raises ConfigError if there are none, UserError if something can't be written.
    """
    files = image_files(folder) if folder.is_dir() else []
    if not files:
        raise ConfigError(f"{folder}: is not a folder with PNG, JPEG, BMP, TIFF or WebP images")
    drawn = _overlay_files(files, folder, outputs.overlay)
    total = _Sum(inspector.plan)
    with _table(outputs.csv) as table:
        for path in files:
            picture = inspector.picture(path)
            judgement = inspector.judge(picture)
            total.add(judgement)
            name = shown_name(path)
            line = Replayed(name, judgement.verdict, judgement.reason, judgement.detail, judgement.regions, name)
            print(msgspec.json.encode(line).decode() if outputs.json else _text(line), flush=True)
            if table is not None:
                table.writerow(_row(line))
            if path in drawn:
                with _said_of(drawn[path]):
                    write_png(drawn[path], overlay(picture, name, judgement, inspector.plan, view))
    print("\n".join(total.lines()), file=sys.stderr)
    if missed := left_out(folder).all:
        print(f"left out: {missed}", file=sys.stderr)


class _Sum:
    """Counts pictures by verdict, by class and by reason."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._verdicts: Counter[Verdict] = Counter()
        self._reasons: Counter[Reason] = Counter()
        self._defects: Counter[str] = Counter()
        self._doubts: Counter[str] = Counter()

    def add(self, judgement: Judgement) -> None:
        self._verdicts[judgement.verdict] += 1
        self._reasons[judgement.reason] += judgement.verdict is Verdict.UNKNOWN
        counted = [region for region in judgement.regions if counts(region, self._plan)]
        certain = {r.class_ for r in counted if r.score >= self._plan.limits[r.zone, r.class_].reject}
        self._defects.update(certain)
        self._doubts.update({r.class_ for r in counted} - certain)

    def lines(self) -> Iterator[str]:
        """The sum in words, the verdicts first."""
        yield ", ".join(f"{verdict} {self._verdicts[verdict]}" for verdict in Verdict)
        if unknown := [f"{reason} {count}" for reason, count in self._reasons.items() if count]:
            yield f"UNKNOWN: {', '.join(unknown)}"
        for name in self._plan.classes:
            yield f"{name}: a defect in {self._defects[name]}, in doubt in {self._doubts[name]}"


def _overlay_files(files: list[Path], folder: Path, into: Path | None) -> dict[Path, Path]:
    """Where each picture's drawing goes, by picture; makes the folder. Raises UserError if it can't be used."""
    if into is None:
        return {}
    with _said_of(into):
        into.mkdir(parents=True, exist_ok=True)
        if into.samefile(folder):
            raise UserError(f"{into}: the drawings would lie among the pictures; name another folder")
    stems = Counter(file.stem for file in files)
    return {file: into / f"{file.stem if stems[file.stem] == 1 else file.name}.png" for file in files}


@contextmanager
def _table(path: Path | None) -> Iterator[Any]:
    """A CSV file with its header, to be written row by row; None where none is wanted."""
    if path is None:
        yield None
        return
    with _said_of(path), path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(CSV_COLUMNS)
        yield table


@contextmanager
def _said_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{shown_path(path)}: can't be written: {error.strerror}") from None


def shown_path(path: Path) -> str:
    """A path as text that can be printed; names need not be UTF-8."""
    return str(path.parent / shown_name(path))


def _row(line: Replayed) -> list[object]:
    worst = max(line.regions, key=lambda region: region.score, default=None)
    of_it = [worst.class_, worst.score, worst.area_px, worst.length_px, worst.zone] if worst else [""] * 5
    return [line.image, line.verdict, line.reason, line.detail, len(line.regions), *of_it]


def _text(line: Replayed) -> str:
    regions = ", ".join(f"{r.class_} {r.score:.2f} at {list(r.bbox)}" for r in line.regions)
    return f"{line.image}  {line.verdict:7}  {line.detail or line.reason}  {regions}".rstrip()
