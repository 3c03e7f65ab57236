"""The commands that make a data set worth training on: `inspectd-train import | check | split | shapes`."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from inspectd.runtime.errors import UserError
from inspectd_train.cli.console import DataSetFolder, Json, SplitFile, plain_errors

if TYPE_CHECKING:
    from inspectd_train.data.imports.regions import Rules
    from inspectd_train.data.imports.store import LabelledSet

Format = StrEnum("Format", ["coco", "labelme", "masks", "mvtec", "cvat", "yolo"])


def import_(
    form: Annotated[Format, typer.Argument(metavar="FORMAT", help="coco, labelme, masks, mvtec, cvat or yolo.")],
    source: Annotated[Path, typer.Argument(help="The folder, or for coco and cvat the file.")],
    out: Annotated[Path, typer.Option(help="The data set folder to make.")],
    images: Annotated[Path | None, typer.Option(help="coco, cvat: where the pictures are.")] = None,
    colours: Annotated[list[str] | None, typer.Option(help="masks: name=#rrggbb, once per class.")] = None,
    one_class: Annotated[str | None, typer.Option(help="mvtec: this class for every kind of defect.")] = None,
    unlabelled: Annotated[
        Literal["background", "error", "dont-care"], typer.Option(help="What pixels in no region are.")
    ] = "background",
    overlap: Annotated[
        Literal["error", "later"],
        typer.Option(help="Regions of two classes on one pixel: the later one, or an error."),
    ] = "error",
    missing: Annotated[
        Literal["error", "clean", "skip"], typer.Option(help="What a picture without a label file or mask is.")
    ] = "error",
    dont_care: Annotated[
        list[str] | None, typer.Option(help="Labels that mean don't-care, besides dont-care and __ignore__.")
    ] = None,
    line_px: Annotated[float | None, typer.Option(min=1, help="labelme, cvat: width of labelled lines.")] = None,
) -> None:
    """Make a data set from the files of a labelling tool. Pictures are copied byte for byte."""
    from inspectd_train.data.imports.regions import Rules
    from inspectd_train.data.imports.store import store
    from inspectd_train.data.labels import IGNORED
    from inspectd_train.data.sources import shown

    with plain_errors():
        if not source.exists():
            raise UserError(f"{source}: no such file or folder; check the path")
        rules = Rules(unlabelled, overlap, missing, IGNORED | set(dont_care or ()), line_px)
        found = _read(form, source, images, colours or [], one_class, rules)
        stored = store(found, out, rules)
    for doubt in stored.doubts:
        print(f"warning: {doubt}")
    if stored.left_out:
        print(f"left out: {stored.left_out}")
    where, classes = shown(str(out)), ", ".join(found.classes)
    print(f"{where}: {stored.pictures} pictures, classes {classes}; next: inspectd-train split {where}")


def check(
    data_set: DataSetFolder,
    split_file: SplitFile = "split.json",
    sheet: Annotated[
        Path | None, typer.Option(help="Write contact sheets, 200 pictures each, to this PNG.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Name every fault with its file. Ends with 1 if there is an error, with 0 if there are only warnings."""
    from inspectd_train.data import check as checking
    from inspectd_train.data.sources import shown

    with plain_errors():
        pictures, faults = checking.check(data_set, split_file)
        pages = checking.sheets(data_set, sheet) if sheet is not None else []
    errors = [f for f in faults if f.level == "error"]
    if as_json:
        print(json.dumps(checking.as_json(pictures, faults), ensure_ascii=False))
    else:
        for fault in sorted(faults, key=lambda f: f.level):
            print(f"{fault.level}: {fault.file}: {fault.reason}")
        for page in pages:
            print(f"contact sheet {shown(str(page))}")
        found = f"{len(pictures)} pictures, {len(errors)} errors, {len(faults) - len(errors)} warnings"
        print(f"{shown(str(data_set))}: {found}")
    if errors:
        raise typer.Exit(1)


def split(
    data_set: DataSetFolder,
    shares: Annotated[str, typer.Option(help="Shares of train, dev and test.")] = "60,20,20",
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another split.")] = 0,
    group_by: Annotated[
        str | None, typer.Option(help="Regular expression: equal matches in the name stay together.")
    ] = None,
    group_column: Annotated[str | None, typer.Option(help="FILE.csv:COLUMN: equal values stay together.")] = None,
    ignore_alike: Annotated[bool, typer.Option(help="Don't keep near-duplicates together.")] = False,
    allow_missing: Annotated[
        bool, typer.Option(help="Write the split even if a class is not everywhere.")
    ] = False,
    out: Annotated[str, typer.Option(help="Name of the split file in the data set folder.")] = "split.json",
) -> None:
    """Divide into train, dev and test: every class everywhere, groups and near-duplicates together."""
    from inspectd_train.data import split as splitting

    with plain_errors():
        wanted = splitting.parse_shares(shares)
        shown, pairs = splitting.read_shown(data_set, not ignore_alike)
        groupings = [splitting.groups_by_pattern(sorted(shown), group_by)] if group_by else []
        groupings += [splitting.groups_by_column(sorted(shown), group_column)] if group_column else []
        units = splitting.together(shown, groupings, pairs)
        splits = splitting.divide(units, wanted, seed)
        bad, weak = splitting.gaps(splits, units)
        if bad or (weak and not allow_missing):
            remedy = "add pictures" if bad else "add pictures, or say --allow-missing"
            raise UserError(f"{data_set}: {(bad + weak)[0]}; {remedy}")
        splitting.write_split(data_set, out, splits)
    for sentence in weak:
        print(f"warning: {sentence}")
    largest = max(units, key=lambda unit: len(unit.names))
    print(f"{len(shown)} pictures, {len(pairs)} alike pairs, {len(units)} groups of up to {len(largest.names)}")
    Console().print(_table(splits, shown))


def shapes(
    out: Annotated[Path, typer.Option(help="The data set folder to make.")],
    pictures: Annotated[int, typer.Option(min=1, help="So many pictures.")] = 200,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    size: Annotated[str, typer.Option(help="Width x height, px.")] = "256x256",
    colour: Annotated[bool, typer.Option(help="Colour pictures instead of grey ones.")] = False,
) -> None:
    """Make the example set: circles, rectangles and triangles over textures, with exact masks and a split."""
    from inspectd_train.data.shapes import write_shapes

    with plain_errors():
        found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
        if not found:
            raise UserError(f"--size {size}: want width x height, as in 256x256")
        splits = write_shapes(out, pictures, seed, (int(found[1]), int(found[2])), colour)
        print(f"{out}: " + ", ".join(f"{len(names)} {split}" for split, names in splits.items()))


def data_commands(to: typer.Typer) -> None:
    """Adds the four commands to an application."""
    to.command("import")(import_)
    for command in (check, split, shapes):
        to.command()(command)


def _read(
    form: Format, source: Path, images: Path | None, colours: list[str], one_class: str | None, rules: Rules
) -> LabelledSet:
    """Reads the labels by the module of their format; UserError for an option of another format."""
    from inspectd_train.data.imports import coco, cvat, labelme, masks, mvtec, yolo

    own = (
        ("--images", images, "coco, cvat"),
        ("--colours", colours, "masks"),
        ("--one-class", one_class, "mvtec"),
    )
    for option, given, forms in own:
        if given and form not in forms.split(", "):
            raise UserError(f"{option} is for {forms}, not for {form}; leave it out")
    if form is Format.coco:
        return coco.read_coco(source, images, rules)
    if form is Format.cvat:
        return cvat.read_cvat(source, images, rules)
    if form is Format.labelme:
        return labelme.read_labelme(source, rules)
    if form is Format.mvtec:
        return mvtec.read_mvtec(source, one_class, rules)
    if form is Format.yolo:
        return yolo.read_yolo(source, rules)
    return masks.read_masks(source, masks.parse_colours(colours) if colours else None, rules)


def _table(splits: dict[str, list[str]], shown: dict[str, set[str]]) -> Table:
    """The numbers of pictures of each class in each split, as a table to print."""
    table = Table("pictures with", *splits, box=None)
    for label in sorted({c for found in shown.values() for c in found}):
        table.add_row(label, *(str(sum(label in shown[n] for n in names)) for names in splits.values()))
    table.add_row("no defect", *(str(sum(not shown[n] for n in names)) for names in splits.values()))
    table.add_row("all", *(str(len(names)) for names in splits.values()))
    return table
