import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from inspectd.runtime.errors import UserError
from inspectd_train.cli.main import app
from inspectd_train.data.shapes import write_shapes
from inspectd_train.data.split import divide, gaps, groups_by_column, groups_by_pattern, parse_shares, together

SHARES = parse_shares("60,20,20")
CLASSES = st.frozensets(st.sampled_from(["pit", "crack", "scratch"]), max_size=2)
PICTURES = st.dictionaries(st.integers(0, 999).map("p{}.png".format), CLASSES, min_size=1, max_size=60)


@given(PICTURES, st.integers(1, 40), st.integers(0, 9))
def test_a_split_is_a_partition_that_keeps_groups_whole(
    shown: dict[str, frozenset[str]], groups: int, seed: int
) -> None:
    group = {name: str(int(name[1:-4]) % groups) for name in shown}
    splits = divide(together(shown, [group], []), SHARES, seed)
    assert sorted(n for names in splits.values() for n in names) == sorted(shown)
    home = {n: s for s, names in splits.items() for n in names}
    assert all(len({home[n] for n in shown if group[n] == g}) == 1 for g in set(group.values()))


@given(PICTURES, st.integers(0, 9))
def test_single_class_pictures_reach_every_split_and_their_shares(
    shown: dict[str, frozenset[str]], seed: int
) -> None:
    single = {name: sorted(classes)[:1] for name, classes in shown.items()}
    splits = divide(together(single, [], []), SHARES, seed)
    for c in ("pit", "crack", "scratch", None):
        total = sum(found == ([c] if c else []) for found in single.values())
        counts = [sum(single[n] == ([c] if c else []) for n in names) for names in splits.values()]
        if total >= 3:
            assert all(counts), (c, counts)
        assert all(abs(n - share * total) <= 2 for n, share in zip(counts, SHARES, strict=True)), (c, counts)


@given(PICTURES, st.integers(0, 9))
def test_a_gap_is_left_only_where_units_are_few_or_mixed(shown: dict[str, frozenset[str]], seed: int) -> None:
    units = together(shown, [], [])
    splits = divide(units, SHARES, seed)
    _, weak = gaps(splits, units)
    having = Counter(c for classes in shown.values() for c in classes)
    assert all(having[sentence.split("'")[1]] < 6 for sentence in weak), (weak, having)


def test_pairs_and_groups_chain() -> None:
    units = together(
        dict.fromkeys("abcdef", ()), [{"a": "1", "b": "1", "c": "2", "d": "2"}], [("b", "c"), ("e", "f")]
    )
    assert sorted(u.names for u in units) == [("a", "b", "c", "d"), ("e", "f")]


def test_no_group_of_any_grouping_is_split() -> None:
    lots, days = {"a": "1", "b": "1", "c": "2", "d": "3"}, {"a": "mon", "b": "tue", "c": "tue", "d": "wed"}
    assert sorted(u.names for u in together(dict.fromkeys("abcd", ()), [lots, days], [])) == [
        ("a", "b", "c"),
        ("d",),
    ]


def test_the_same_split_on_every_machine() -> None:
    """Written down once: no random generator, no hash order, no rounding takes part."""
    shown = {f"p{n:02}.png": ["pit"] * (n % 3 == 0) + ["crack"] * (n % 7 == 0) for n in range(30)}
    splits = divide(together(shown, [], []), SHARES, 0)
    assert {s: len(names) for s, names in splits.items()} == {"train": 18, "dev": 6, "test": 6}
    assert splits["dev"] == [f"p{n}.png" for n in (10, 13, 21, 23, 24, 29)]
    assert divide(together(shown, [], []), SHARES, 1) != splits


def test_groups_from_names_and_columns(tmp_path: Path) -> None:
    assert groups_by_pattern(["lot1_a.png", "lot2_b.png"], r"lot(\d)") == {"lot1_a.png": "1", "lot2_b.png": "2"}
    assert groups_by_pattern(["lot1_a.png"], r"lot\d") == {"lot1_a.png": "lot1"}
    with pytest.raises(UserError, match=r"x\.png: --group-by lot doesn't match it"):
        groups_by_pattern(["x.png"], "lot")
    with pytest.raises(UserError, match="not a regular expression"):
        groups_by_pattern(["x.png"], "(")
    table = tmp_path / "parts.csv"
    table.write_text("name,part\na.png,7\nb.png,7\n", "utf-8-sig")
    assert groups_by_column(["a.png", "b.png"], f"{table}:part") == {"a.png": "7", "b.png": "7"}
    for where, said in ((f"{table}:lot", "the columns name and lot"), ("part", "can't be read")):
        with pytest.raises(UserError, match=said):
            groups_by_column(["a.png"], where)
    with pytest.raises(UserError, match=r"c\.png: has no row"):
        groups_by_column(["c.png"], f"{table}:part")


@pytest.mark.parametrize("text", ["60,40", "60,20,x", "60,20,0", "60,20,-1", "inf,1,1", "nan,1,1", ""])
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match="want three positive numbers"):
        parse_shares(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shapes(tmp_path / "d", 20, 3, (96, 80), colour=False)
    (tmp_path / "d/split.json").unlink()
    return tmp_path / "d"


def run(folder: Path, *words: str) -> tuple[int, str]:
    said = CliRunner().invoke(app, ["split", str(folder), *words])
    return said.exit_code, said.output.replace("\n", " ")


def test_near_duplicates_stay_together(folder: Path) -> None:
    (folder / "labels.json").unlink()
    for n in range(4):
        for part in ("images", "masks"):
            pixels = cv2.imread(str(folder / part / "shapes_00000.png"), cv2.IMREAD_UNCHANGED)
            assert pixels is not None
            changed = cv2.convertScaleAbs(pixels, alpha=1 - 0.1 * n) if part == "images" else pixels
            cv2.imwrite(str(folder / part / f"copy_{n}.png"), np.rot90(changed, n))
    code, said = run(folder)
    assert code == 0 and "24 pictures" in said and "groups of up to 5" in said
    splits = json.loads((folder / "split.json").read_text())
    copies = {"copy_0.png", "copy_1.png", "copy_2.png", "copy_3.png", "shapes_00000.png"}
    assert sum(bool(copies & set(names)) for names in splits.values()) == 1


def test_a_table_says_what_is_where(folder: Path) -> None:
    code, said = run(folder, "--out", "other.json", "--shares", "50,25,25")
    assert code == 0 and all(word in said for word in ("train", "dev", "test", "triangle", "no defect"))
    splits = json.loads((folder / "other.json").read_text())
    assert run(folder, "--out", "other.json", "--shares", "50,25,25")[0] == 0  # the same once more
    before = (folder / "other.json").read_bytes()
    code, said = run(folder, "--out", "other.json")
    assert code == 1 and "other.json: is there already, and is another" in said
    assert (folder / "other.json").read_bytes() == before
    assert all(abs(len(splits[s]) - n) <= 1 for s, n in (("train", 10), ("dev", 5), ("test", 5)))


def test_a_class_that_cannot_be_everywhere(folder: Path) -> None:
    names = json.loads((folder / "classes.json").read_text())
    (folder / "classes.json").write_text(json.dumps(names | {"4": "star"}))
    (folder / "labels.json").unlink()
    cv2.imwrite(str(folder / "masks/shapes_00000.png"), np.full((80, 96), 4, np.uint8))
    code, said = run(folder)
    assert code == 1 and "no picture with 'star' would be in dev and test: only 1 groups" in said
    assert not (folder / "split.json").exists()
    code, said = run(folder, "--allow-missing")
    assert code == 0 and "warning: no picture with 'star'" in said


def test_one_group_can_not_be_divided(folder: Path) -> None:
    code, said = run(folder, "--group-by", "shapes", "--allow-missing")
    assert code == 1 and "would be empty: only 1 groups of pictures" in said


def test_a_set_with_errors_is_not_divided(folder: Path) -> None:
    (folder / "masks/shapes_00000.png").unlink()
    code, said = run(folder)
    assert code == 1 and "1 errors, the first is images/shapes_00000.png: has no mask" in said
    shutil.rmtree(folder / "images")
    assert run(folder)[0] == 1
