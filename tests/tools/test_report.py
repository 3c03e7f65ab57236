import base64
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspectd.runtime.errors import UserError
from inspectd_train.bundle.calibrate import calibrate
from inspectd_train.bundle.search import Wish
from inspectd_train.data.dataset import SPLITS, DataSet, open_data_set
from inspectd_train.measure.evaluate import evaluate
from inspectd_train.report.curves import WIDTH, line_chart, ticks
from inspectd_train.report.report import write_report
from tests.bundles import write_bundle
from tests.tools.greys import Spot, write_greys

CLASSES = ("spot <b>&", "line")
VOID = {"meta", "br", "img"}
PICTURES: dict[str, list[Spot]] = {
    "fine.png": [],
    "also_fine.png": [],
    "false_call.png": [(8, 8, 16, 220, 0)],
    "found.png": [(40, 20, 16, 250, 1)],
    "escaped.png": [(40, 20, 16, 40, 1), (8, 40, 8, 20, 2)],
}


class Page(HTMLParser):
    """Which tags are open, and all attributes that could fetch something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "xlink:href", "data")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, DataSet]]:
    folder = tmp_path_factory.mktemp("report")
    data = open_data_set(write_greys(folder / "d", dict.fromkeys(("train", "dev", "test"), PICTURES), CLASSES))
    bundle = write_bundle(folder / "b", 1, ("a", "b"))
    text = (bundle / "manifest.json").read_text()
    manifest = json.loads(text) | {"classes": list(CLASSES), "parity": PARITY}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    calibrate(bundle, data, None, Wish(), 1)
    limits = "".join(f"[limits.{json.dumps(name)}]\nsuspect = 0.4\nreject = 0.6\n" for name in CLASSES)
    (bundle / "recipe.toml").write_text(f'model = "."\ndeadline_ms = 100\n{limits}')
    checks = [
        {"minutes": n, "step": 9 * n, "loss": 0.4, "score": 0.2 * n, "cell_ap": 0.1 * n} for n in range(1, 5)
    ]
    (bundle / "training/run.json").write_text(json.dumps({"checks": checks}))
    write_report(bundle, bundle, data, evaluate(bundle, data, "test", None, 1), 1)
    yield bundle, data


PARITY = {
    "parts": 5,
    "reference": {"miou": 0.81},
    "graphs": {"OpenVINO int8": {"miou": 0.807, "verdicts_equal": 1.0, "changed": ["a part"]}},
}


def test_page_stands_alone_and_is_well_formed(made: tuple[Path, DataSet]) -> None:
    text = (made[0] / "report.html").read_text("utf-8")
    page = Page(text)
    assert page.open == []
    assert page.links
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert not re.search(r"https?:|<script|@import|url\(|<link|<iframe", text)
    assert text.count("<svg") == 2 * len(re.findall(r'role="img"', text)) == 8


def test_worst_pictures_are_there_by_name_and_can_be_seen(made: tuple[Path, DataSet]) -> None:
    text = (made[0] / "report.html").read_text("utf-8")
    kinds = re.split(r"<h2>", text)
    by_title = {kind.split("<")[0]: kind for kind in kinds}
    assert re.findall(r'alt="([^"]*)"', by_title["Escapes, the worst"]) == ["escaped.png: PASS"]
    assert re.findall(r'alt="([^"]*)"', by_title["Overkill, the worst"]) == ["false_call.png: FAIL"]
    assert re.findall(r'alt="([^"]*)"', by_title["Missed defects, the worst"]) == ["escaped.png"]
    assert re.findall(r'alt="([^"]*)"', by_title["False regions, the worst"]) == ["false_call.png"]
    coded = re.search(r'base64,([^"]*)"', by_title["Escapes, the worst"])
    assert coded
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(coded[1]), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    blue, green, red = (picture[..., n].astype(int) for n in range(3))
    right = picture.shape[1] // 2
    assert ((green - red > 60) & (green - blue > 60))[:, right:].any(), "no green outline of the label"
    assert not ((green - red > 60) & (green - blue > 60))[:, : right - 4].any(), "the left half is plain"


def test_figures_and_tables_are_there(made: tuple[Path, DataSet]) -> None:
    words = " ".join(" ".join(Page((made[0] / "report.html").read_text("utf-8")).words).split())
    assert "Escapes 50.0 % 1 of 2 defective parts would be shipped (9.5–90.5 %)" in words
    assert "Overkill 33.3 % 1 of 3 good parts would be ejected" in words
    assert "spot <b>& > background : escaped.png (256)" in words
    assert "These are not the thresholds that the calibration below chose" in words
    assert "OpenVINO int8 0.807 1" in words
    assert "INT8 is not used" in words
    assert "inspectd-train evaluate BUNDLE DATASET --split test --part whole --split-file split.json" in words
    figures = json.loads((made[0] / "report.json").read_text())
    assert figures["escape_rate"] == 0.5


def test_unknown_figures_are_said_not_shown_as_zero(made: tuple[Path, DataSet], tmp_path: Path) -> None:
    bundle, data = made
    bad = DataSet(data.folder, data.classes, data.split_file, data.splits | {"test": ("found.png",)})
    write_report(tmp_path, bundle, bad, evaluate(bundle, bad, "test", None, 1), 1)
    words = " ".join(" ".join(Page((tmp_path / "report.html").read_text("utf-8")).words).split())
    assert "Overkill not known no such part in the split" in words
    assert "AUROC not known" in words


def test_crops_of_a_picture_are_cut_as_they_were_judged(tmp_path: Path) -> None:
    wide = {"wide.png": [(100, 80, 16, 30, 1), (300, 120, 12, 255, 0)]}
    data = open_data_set(write_greys(tmp_path / "d", dict.fromkeys(SPLITS, wide), size=(200, 400)))
    bundle = write_bundle(tmp_path / "b", 1)
    write_report(tmp_path, bundle, data, evaluate(bundle, data, "test", (96, 80), 1), 1)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert re.search(r'alt="wide.png@\d+,\d+: PASS"', text)


def test_a_report_that_cannot_be_written_is_one_sentence(made: tuple[Path, DataSet], tmp_path: Path) -> None:
    bundle, data = made
    with pytest.raises(UserError, match=r"report.json: can't be written"):
        write_report(tmp_path / "missing", bundle, data, evaluate(bundle, data, "test", None, 1), 1)


def test_a_chart_puts_points_where_they_belong() -> None:
    svg = line_chart({"a": [(0, 0), (1, 1)]}, ("x < y", "y"), (0, 1), (0, 1), (0.5, 0.5))
    points = re.search(r'points="([\d.]+),([\d.]+) ([\d.]+),([\d.]+)"', svg)
    ring = re.search(r'cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert points
    assert ring
    x0, y0, x1, y1 = (float(v) for v in points.groups())
    assert x0 < x1
    assert y0 > y1
    assert [float(v) for v in ring.groups()] == pytest.approx([(x0 + x1) / 2, (y0 + y1) / 2])
    assert "x &lt; y" in svg


@pytest.mark.parametrize(
    ("of", "named"),
    [
        ((0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ((0, 0.3), [0, 0.1, 0.2, 0.3]),
        ((0, 1.9), [0, 0.5, 1, 1.5]),
        ((0, 9.5), [0, 2, 4, 6, 8]),
        ((0, 0.05), [0, 0.01, 0.02, 0.03, 0.04, 0.05]),
        ((1, 4000), [1000, 2000, 3000, 4000]),
    ],
)
def test_an_axis_names_round_values(of: tuple[float, float], named: list[float]) -> None:
    assert ticks(of) == named


def test_the_names_of_several_lines_stand_beside_the_chart() -> None:
    svg = line_chart(
        {"a": [(0, 0), (1, 1)], "a name of very many letters": [(0, 1), (1, 0)]}, ("x", "y"), (0, 1), (0, 1)
    )
    names = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="[\d.]+"><title>', svg)]
    assert (
        len(names) == 2 and min(names) > WIDTH and "a name of very many letters</title>a name of very ma…" in svg
    )
