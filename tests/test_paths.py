"""Whoever carries on finds what the documents for developers name: every path, test, link and record."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docs/architecture.md")),
    *sorted((ROOT / "docs/decisions").glob("*.md")),
]
NAMED = re.compile(r"`((?:inspectd|tools|tests|docs|models|systemd)/[^`\s]*)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
EXAMPLES = {"inspectd/acquire/yours.py", "inspectd/engine/yours.py", "inspectd/subscribe/yours.py"}
EXAMPLES |= {"inspectd/cli/yours.py", "tests/wire/samples/1b"}

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def anchors(document: Path) -> set[str]:
    """Headings as links name them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_every_path_and_test_that_it_names_is_there(document: Path) -> None:
    absent = []
    for named in set(NAMED.findall(document.read_text())) - EXAMPLES:
        path, _, test = named.partition("::")
        if not (ROOT / path).exists():
            absent.append(path)
        elif test and f"\ndef {test}(" not in (ROOT / path).read_text():
            absent.append(named)
    assert absent == []


@each_document
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in LINK.findall(document.read_text()):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_records_are_short_numbered_and_listed() -> None:
    folder = ROOT / "docs/decisions"
    records = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    listed = re.findall(r"^\| \[(\d{4})\]\((.*?)\) \|", (folder / "README.md").read_text(), re.MULTILINE)
    assert listed == [(path.name[:4], path.name) for path in records]
    assert [int(number) for number, _ in listed] == list(range(1, len(records) + 1))
    for path in records:
        text = path.read_text()
        assert text.startswith(f"# {path.name[:4]} ") and "\n2026-" in text and text.count("\n") <= 40, path


def test_the_changelog_has_the_version() -> None:
    from inspectd import __version__

    versions = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[:2] == ["Unreleased", __version__]
