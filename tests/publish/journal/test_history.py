"""The journal read while it is written: nothing skipped, nothing invented, in bounded steps."""

import errno
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspectd.publish.journal import history as module
from inspectd.publish.journal.history import Chunk, History
from inspectd.publish.journal.records import Entry
from inspectd.publish.journal.recovery import TAINTED
from inspectd.publish.journal.writer import Journal
from inspectd.settings.publish import JournalConfig
from inspectd.wire.results import Next

SMALL = JournalConfig(segment_mib=1, segments=3)


def entry(seq: int, size: int = 200, body: bytes = b"x") -> Entry:
    return Entry(seq, "top", seq, b"res/test/top/", b"h" * 48, body * size)


def fill(journal: Journal, count: int, size: int = 200) -> None:
    for _ in range(count):
        journal.append(entry(journal.seq + 1, size))


def read(history: History, epoch: int, start: int, steps: int = 1000) -> Chunk:
    for _ in range(steps):
        if (chunk := history.read(epoch, start)) is not None:
            return chunk
    raise AssertionError("never read")


def all_from(history: History, epoch: int, start: int) -> tuple[list[int], int, Next | None]:
    """Numbers of all results from one on, up to where the last chunk goes, and what comes next."""
    found: list[int] = []
    while True:
        chunk = read(history, epoch, start)
        found += [one.seq for one in chunk.entries]
        if chunk.next is not None or chunk.upto < start:
            return found, chunk.upto, chunk.next
        assert chunk.upto >= start
        start = chunk.upto + 1


@pytest.fixture
def journal(tmp_path: Path):
    made = Journal(tmp_path / "j", SMALL, "boot")
    yield made
    made.close()


def test_what_was_just_written_is_read(journal: Journal) -> None:
    history = History(journal)
    assert history.oldest() == Next(journal.epoch, 1)
    assert read(history, journal.epoch, 1) == Chunk([], 0)
    fill(journal, 3)
    assert read(history, journal.epoch, 1) == Chunk([entry(1), entry(2), entry(3)], 3)
    assert read(history, journal.epoch, 3) == Chunk([entry(3)], 3)
    assert read(history, journal.epoch, 4) == Chunk([], 3)
    assert read(history, journal.epoch, 0).entries[0].seq == 1
    history.close()


def test_a_chunk_is_bounded_and_the_oldest_are_recycled(journal: Journal) -> None:
    history = History(journal)
    fill(journal, 20_000)
    oldest = history.oldest().first
    assert 1 < oldest < 15_000
    assert len(read(history, journal.epoch, oldest).entries) == module.MAX_ENTRIES <= 256
    found, upto, after = all_from(history, journal.epoch, 1)
    assert found == list(range(oldest, 20_001)) and upto == 20_000 and after is None


@given(st.lists(st.tuples(st.integers(1, 90_000), st.booleans(), st.booleans()), max_size=30), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_any_sizes_corrections_and_restarts(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[int, bool, bool]], start: int
) -> None:
    """Some results are corrected, late answers lie between them, and the daemon is restarted now and then."""
    folder = tmp_path_factory.mktemp("j")
    journal = Journal(folder, SMALL, "boot")
    epoch, bodies = journal.epoch, {}
    for size, corrected, restarted in written:
        seq = journal.seq + 1
        journal.append_late(entry(0, 1000))
        journal.append(entry(seq, size * 4))
        if corrected:  # at once: the publisher keeps nothing in between
            journal.append(entry(seq, 10, b"y"))
        bodies[seq] = entry(seq, 10, b"y") if corrected else entry(seq, size * 4)
        if restarted:
            journal.close()
            journal = Journal(folder, SMALL, "boot")
    history = History(journal)
    assert journal.epoch == epoch
    first = max(start, history.oldest().first)
    found, wanted = [], [one for seq, one in bodies.items() if seq >= first]
    while not found or found[-1].seq < journal.seq:
        chunk = read(history, epoch, found[-1].seq + 1 if found else start)
        found += chunk.entries
        if not chunk.entries:
            assert not wanted or not found
            break
    assert found == wanted
    history.close()
    journal.close()


def test_old_segments_are_learned_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "j", SMALL, "boot")
    fill(journal, 6000)  # in two segments
    journal.close()
    journal = Journal(tmp_path / "j", SMALL, "boot")
    history = History(journal)
    monkeypatch.setattr(module, "STEP_BYTES", 10_000)
    start = journal.segments[-1].position.seq - 1
    steps = 0
    while (chunk := history.read(journal.epoch, start)) is None:
        steps += 1
    assert steps > 50 and chunk.entries[0].seq == start
    assert history.read(journal.epoch, 20) is not None  # it is known now
    history.close()
    journal.close()


def test_an_ended_epoch_says_where_to_go_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", SMALL, "boot")
    fill(journal, 300)
    first_epoch = journal.epoch
    journal.failure = "the power is gone"  # no mark of a clean end
    journal.close()
    journal = Journal(tmp_path / "j", SMALL, "another boot")
    assert journal.epoch != first_epoch
    fill(journal, 2)
    history = History(journal)
    found, upto, after = all_from(history, first_epoch, 1)
    assert found == list(range(1, 301)) and upto == 300 and after == Next(journal.epoch, 301)
    assert read(history, first_epoch, 500) == Chunk([], 499, Next(journal.epoch, 301))
    assert all_from(history, journal.epoch, 301)[0] == [301, 302]
    assert read(history, 42, 7) == Chunk([], 6, Next(first_epoch, 1))  # nobody knows that epoch
    history.close()
    journal.close()


def test_results_that_were_not_kept_are_passed_over(journal: Journal) -> None:
    history = History(journal)
    fill(journal, 2)
    journal.failure = "the disk is gone"
    fill(journal, 3)
    assert read(history, journal.epoch, 1) == Chunk([entry(1), entry(2)], 5)
    journal.failure = ""


def test_an_unreadable_segment_is_passed_over(tmp_path: Path, journal: Journal) -> None:
    fill(journal, 6000)  # in two segments
    first, second = journal.segments
    history = History(journal)
    first.path.unlink()
    assert read(history, journal.epoch, 1) == Chunk([], second.position.seq)
    found, upto, _ = all_from(history, journal.epoch, second.position.seq + 1)
    assert found == list(range(second.position.seq + 1, 6001)) and upto == 6000
    second.path.write_bytes(second.path.read_bytes()[:5000])  # cut off
    assert read(history, journal.epoch, 5990) == Chunk([], 6000)
    history.close()


def no_bytes_yet(fd: int, buffers: list[bytearray], at: int, flags: int = 0) -> int:
    """As of a bad sector, or of a disk that is slow."""
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def test_a_disk_that_never_has_the_bytes_is_given_up(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(journal, 10)
    history, epoch = History(journal), journal.epoch
    monkeypatch.setattr(module, "UNREADABLE_NS", 300_000_000)
    began_s = time.monotonic()
    with monkeypatch.context() as bad:
        bad.setattr(os, "preadv", no_bytes_yet)
        while (chunk := history.read(epoch, 1)) is None:
            time.sleep(0.01)
        assert chunk == Chunk([], 10)
        assert 0.3 < time.monotonic() - began_s < 5
    assert len(read(history, epoch, 1).entries) == 10  # should it answer after all
    with monkeypatch.context() as bad:
        bad.setattr(os, "preadv", no_bytes_yet)
        assert history.read(epoch, 1) is None  # it has as long again
    history.close()


def test_what_nobody_waited_for_is_not_given_up(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(journal, 10)
    history, epoch = History(journal), journal.epoch
    monkeypatch.setattr(module, "UNREADABLE_NS", 100_000_000)
    monkeypatch.setattr(module, "FORGOTTEN_NS", 50_000_000)
    monkeypatch.setattr(os, "preadv", no_bytes_yet)
    for _ in range(3):
        assert history.read(epoch, 1) is None
        time.sleep(0.15)
    history.close()


@given(st.binary(max_size=600), st.booleans(), st.integers(0, 300))
@settings(max_examples=80, deadline=None)
def test_whatever_stands_behind_the_last_record_reading_ends(
    tmp_path_factory: pytest.TempPathFactory, rubbish: bytes, learns: bool, start: int
) -> None:
    """As a power cut leaves it: pages of a former life where zeros should be."""
    folder = tmp_path_factory.mktemp("j")
    journal = Journal(folder, SMALL, "boot")
    fill(journal, 200, 20)
    epoch, at, path = journal.epoch, journal._at, journal.segments[-1].path
    journal.close()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(rubbish)
    (folder / TAINTED).touch()
    journal = Journal(folder, SMALL, "another boot")
    if learns:
        journal.segments[0].whole = False
        journal.segments[0].last = 0
    history = History(journal)
    found, upto, after = all_from(history, epoch, start)
    assert found == list(range(max(1, start), 201))
    assert upto == max(200, start - 1) and after == Next(journal.epoch, 201)
    history.close()
    journal.close()
