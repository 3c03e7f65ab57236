"""Pictures for a bench whose verdicts shall show which picture was judged: clean and defective ones in turn."""

from collections.abc import Callable
from pathlib import Path

from inspectd.bench.line import pictures_of
from inspectd.runtime.errors import UserError
from inspectd.runtime.frame import Judgement, Region, Verdict
from inspectd.runtime.image_files import image_files
from inspectd.settings.config import Settings

MOST, MOST_JUDGED = 10, 200
"""Most pictures of each sort, and most files looked at."""
APART_PX = 24.0
"""The largest region of one picture lies at most so far from where it was found before; another one's does not."""


def alternate(settings: Settings, judge: Callable[[Path], Judgement], folder: Path) -> list[Judgement]:
    """Link pictures of the config's folder into `folder`, a clean one and a defective one in turn.

    Of the defective ones those come first whose defects lie in the lower half, where a short frame shows another
    picture. judge: what `inspectd replay` says of an image file. Returns what it says of each that was linked.
    Raises UserError if there are none of one sort.
    """
    source, _, height = pictures_of(settings)
    judged = [(path, judge(path)) for path in image_files(source)[:MOST_JUDGED]]
    found = {
        wanted: [one for one in judged if one[1].verdict == wanted] for wanted in (Verdict.PASS, Verdict.FAIL)
    }
    found[Verdict.FAIL].sort(key=lambda one: not _is_below(one[1], height / 2))
    for verdict, kept in found.items():
        if not kept:
            raise UserError(
                f"no picture in {source} is a {verdict} by the recipe: this bench needs clean and defective ones, "
                "or a verdict would not show which picture was judged"
            )
    pairs = [one for both in zip(found[Verdict.PASS], found[Verdict.FAIL], strict=False) for one in both][
        : 2 * MOST
    ]
    folder.mkdir(parents=True)
    for index, (path, _) in enumerate(pairs):
        (folder / f"{index:02}{path.suffix}").symlink_to(path.resolve())
    return [judgement for _, judgement in pairs]


def _is_below(judgement: Judgement, y: float) -> bool:
    return all(region.bbox[1] >= y for region in judgement.regions)


def is_of(verdict: Verdict, regions: tuple[Region, ...], picture: Judgement) -> bool:
    """Whether a verdict and its regions are those of this picture: of defective ones, the same defect."""
    if verdict != picture.verdict or verdict is Verdict.PASS:
        return verdict == picture.verdict
    (x, y), (at_x, at_y) = _largest(regions), _largest(picture.regions)
    return abs(x - at_x) <= APART_PX and abs(y - at_y) <= APART_PX


def _largest(regions: tuple[Region, ...]) -> tuple[float, float]:
    return max(regions, key=lambda region: region.area_px).centroid
