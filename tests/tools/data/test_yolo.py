"""Segmentation labels of YOLO in the layouts that tools write them in."""

from pathlib import Path

import pytest

from tests.tools.data.imported import areas, content, imported, write_picture

SQUARE = "0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5"  # 30 x 24 px of 120 x 96
NAMES = "names: [scratch, pit]\n"


def yolo(folder: Path, labels: dict[str, str | None], names: str = NAMES, names_in: str = "data.yaml") -> Path:
    """Writes pictures by the path of their label file without its suffix, and the labels; None: no file."""
    for seed, (path, text) in enumerate(labels.items()):
        parts = ["images" if part == "labels" else part for part in Path(path).parts]
        write_picture(folder.joinpath(*parts).with_suffix(".png"), seed=seed)
        if text is not None:
            file = (folder / path).with_suffix(".txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    (folder / names_in).parent.mkdir(parents=True, exist_ok=True)
    (folder / names_in).write_text(names)
    return folder


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("labels/train/a", "labels/val/b"),  # Ultralytics, CVAT
        ("train/labels/a", "valid/labels/b"),  # Roboflow
        ("labels/a", "labels/b"),
        ("obj_train_data/a", "obj_train_data/b"),  # beside the pictures, as Darknet
    ],
)
def test_layouts(tmp_path: Path, first: str, second: str) -> None:
    folder = yolo(
        tmp_path / "s", {first: f"0 {SQUARE}\n", second: f"1 {SQUARE}\n\n1 0 0 0.1 0 0.1 0.125 0 0.125\n"}
    )
    (folder / "README.roboflow.txt").write_text("made by")
    (folder / "train.txt").write_text("images/train/a.png")
    code, said = imported("yolo", folder, tmp_path / "d")
    assert code == 0 and "left out: 2 .txt (neither picture nor label)" in said, said
    assert areas(tmp_path / "d") == {"a": {1: 720}, "b": {2: 720 + 144}}
    assert content(tmp_path / "d/labels.json") == {"a.png": ["scratch"], "b.png": ["pit"]}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("names: ['scratch', \"pit\"]\nnc: 2\n", "data.yaml"),
        ("train: ../train/images\nnc: 2\nnames:\n  0: scratch\n  1: pit  # holes\n", "dataset.yaml"),
        ("names:\n- scratch\n- pit\nnc: 2\n", "data.yml"),
        ("names: {0: scratch,\n  1: pit}\n", "data.yaml"),
        ("names: [\n  scratch,\n  pit,\n]\n", "data.yaml"),
        ("\ufeffscratch\npit\n", "classes.txt"),
        ("scratch\npit\n", "labels/classes.txt"),
        ("scratch\npit\n", "obj.names"),
    ],
)
def test_class_names(tmp_path: Path, text: str, where: str) -> None:
    folder = yolo(tmp_path / "s", {"labels/a": f"0 {SQUARE}", "labels/b": f"1 {SQUARE}"}, text, where)
    code, said = imported("yolo", folder, tmp_path / "d")
    assert code == 0, said
    assert content(tmp_path / "d/classes.json") == {"0": "background", "1": "scratch", "2": "pit"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nc: 2\n", "no entry `names`"),
        ("names: [scratch\n", "can't be read"),
        ("names: [scratch, {pit}]\n", "is no list of names"),
        ("names: [scratch, pit]\nnames: [pit, scratch]\n", "`names` stands twice"),
        ("names: {0: scratch, 0: pit}\n", "the index 0 stands twice"),
        ("names:\n- scratch, pit\n", "has more than one name"),
        ("names: [scratch, '']\n", "a label is missing or empty"),
    ],
)
def test_names_that_cannot_be_read_are_refused(tmp_path: Path, text: str, said: str) -> None:
    folder = yolo(tmp_path / "s", {"labels/a": f"0 {SQUARE}"}, text)
    code, words = imported("yolo", folder, tmp_path / "d")
    assert code == 1 and "data.yaml: " in words and said in words


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.2 0.2", "is a box, and a box alone is not a mask"),
        ("0 0.5 0.5 0.2 0.2 0.9", "has 5 coordinates; want x and y of three points or more"),
        (f"2 {SQUARE}", "has the class index 2, which has no name"),
        ("0 10 10 30 10 30 20", "has a coordinate that is not from 0 to 1: are these pixels?"),
        ("0 0.1 0.1 nan 0.1 0.3 0.2", "has a coordinate that is not from 0 to 1"),
        ("scratch 0.1 0.1 0.2 0.1 0.3 0.2", "is not a class index and coordinates"),
        (f"0 0.375 0.375 0.25 0.25 {SQUARE}", "has a box before its outline"),
    ],
)
def test_lines_that_are_no_region_are_named(tmp_path: Path, line: str, said: str) -> None:
    folder = yolo(tmp_path / "s", {"labels/a": f"0 {SQUARE}\n{line}\n"})
    code, words = imported("yolo", folder, tmp_path / "d")
    assert code == 1 and f"a.txt: line 2 {said}" in words


def test_an_empty_file_is_a_good_part_and_a_missing_one_is_not_unseen(tmp_path: Path) -> None:
    folder = yolo(tmp_path / "s", {"labels/a": f"0 {SQUARE}", "labels/good": "", "labels/open": None})
    code, said = imported("yolo", folder, tmp_path / "d")
    assert code == 1 and "open.png: has no label file" in said
    code, said = imported("yolo", folder, tmp_path / "d", "--missing", "skip")
    assert code == 0 and "left out: 1 in images/ (no label file)" in said
    assert areas(tmp_path / "d") == {"a": {1: 720}, "good": {}}
    assert imported("yolo", folder, tmp_path / "e", "--missing", "clean")[0] == 0
    assert areas(tmp_path / "e") == {"a": {1: 720}, "good": {}, "open": {}}
    (folder / "images/open.png").rename(folder / "images/other.png")
    (folder / "labels/open.txt").write_text(f"0 {SQUARE}")
    assert "labels without a picture" in imported("yolo", folder, tmp_path / "f", "--missing", "skip")[1]


def test_a_folder_without_names_says_what_is_wanted(tmp_path: Path) -> None:
    folder = yolo(tmp_path / "s", {"labels/a": f"0 {SQUARE}"})
    (folder / "data.yaml").unlink()
    code, said = imported("yolo", folder, tmp_path / "d")
    assert code == 1 and "want one data.yaml or classes.txt with the class names, found none" in said
    code, said = imported("yolo", folder / "labels/a.txt", tmp_path / "d")
    assert code == 1 and "no such folder; want one with data.yaml or classes.txt" in said
