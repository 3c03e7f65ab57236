"""The one rule: a network's answer about a picture -> the judgement of the part.

The daemon, `inspectd replay` and the offline tool's evaluation call it; nothing judges beside it.
"""

from inspectd.extract.plan import U8, Plan
from inspectd.extract.regions import Extraction, extract_regions
from inspectd.judge.image import unfitness
from inspectd.judge.verdict import counts, judge
from inspectd.runtime.frame import Judgement, Reason, Verdict
from inspectd.settings.recipe import ImageLimits

NOT_CHECKED = ImageLimits()
"""Limits of the picture that every picture keeps."""


def inspect(
    scores: U8,
    peak: U8,
    plan: Plan,
    limits: ImageLimits = NOT_CHECKED,
    sample: U8 | None = None,
    previous: U8 | None = None,
) -> Judgement:
    """Judge one picture: its regions by the recipe's limits, and whether the picture itself is fit.

    scores: score map uint8 [K, h, w]; peak: its highest score per class, uint8 [K]; plan: the recipe resolved for
    the camera and the model. sample: what `judge.image.sample_of` took of the picture, needed where `limits` ask
    for it, else ValueError; previous: the sample of the camera's picture before, None if there was none.
    """
    judgement = judge(extract_regions(scores, peak, plan), plan)
    if limits == NOT_CHECKED:
        return judgement
    if sample is None:
        raise ValueError("there are limits of the picture, and no sample of it: it would pass unseen")
    if unfit := unfitness(sample, previous, limits):
        return judgement._replace(verdict=Verdict.UNKNOWN, reason=Reason.IMAGE, detail=unfit)
    return judgement


def counted_regions(scores: U8, peak: U8, plan: Plan) -> Extraction:
    """The regions of a score map that count for the verdict; those that are too small do not."""
    found = extract_regions(scores, peak, plan)
    return found._replace(regions=tuple(region for region in found.regions if counts(region, plan)))
