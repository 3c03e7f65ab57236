"""Nothing published is lost: the journal under kill, torn tail, reuse, full disk and write errors."""

import contextlib
import errno
import os
import resource
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from inspectd.publish.journal.history import Chunk, History
from inspectd.publish.journal.records import PAGE, RESULT, Entry, read_entries
from inspectd.publish.journal.recovery import TAINTED
from inspectd.publish.journal.writer import Journal, boot_id
from inspectd.publish.messages import Identity, Messages
from inspectd.runtime.books import Ledger
from inspectd.runtime.errors import UnavailableError
from inspectd.runtime.frame import Reason, unknown
from inspectd.settings.publish import JournalConfig
from tests.makers import examples, gap
from tests.publish.lines import SETUPS, Camera

SMALL = JournalConfig(segment_mib=1, segments=2)
BOOT, OTHER_BOOT = "boot-a", "boot-b"
Make = Callable[..., Journal]


@pytest.fixture
def make() -> Iterator[Make]:
    opened: list[Journal] = []

    def made(folder: Path, boot: str = BOOT, config: JournalConfig = SMALL) -> Journal:
        opened.append(Journal(folder, config, boot))
        return opened[-1]

    yield made
    for journal in opened:
        close(journal)


def close(journal: Journal) -> None:
    with contextlib.suppress(OSError):  # closed by the test
        journal.close()


def entry(seq: int, size: int = 40, camera: str = "top", part_id: int | None = None) -> Entry:
    part_id = 100 + seq if part_id is None else part_id
    return Entry(seq, camera, part_id, b"res/a/top/", bytes(48), (f"<{seq}>" * size).encode()[:size])


def write(journal: Journal, count: int, size: int = 40) -> list[Entry]:
    written = [entry(journal.seq + 1 + i, size) for i in range(count)]
    for one in written:
        journal.append(one)
    return written


def killed(folder: Path) -> Path:
    """What is on the disk right now, in a folder of its own: as if the writer had been killed here."""
    copy = folder.parent / f"killed-{len(list(folder.parent.iterdir()))}"
    shutil.copytree(folder, copy)
    return copy


def test_a_new_journal_is_empty_and_preallocated(tmp_path: Path, make: Make) -> None:
    journal = make(tmp_path / "deep/er/journal")
    assert (journal.seq, journal.part_ids, journal.failure) == (0, {}, "")
    assert 0 < journal.epoch < 2**64
    files = sorted((tmp_path / "deep/er/journal").glob("*"))
    assert [file.name for file in files] == ["000.journal", "001.journal"]
    assert all(file.stat().st_size == 2**20 and file.stat().st_blocks * 512 >= 2**20 for file in files)
    assert list(read_entries(tmp_path / "deep/er/journal")) == []


def test_two_new_journals_have_different_epochs(tmp_path: Path, make: Make) -> None:
    assert make(tmp_path / "a").epoch != make(tmp_path / "b").epoch


def test_everything_survives_a_clean_end(tmp_path: Path, make: Make) -> None:
    journal = make(tmp_path / "j")
    written = write(journal, 50)
    journal.close()
    assert list(read_entries(tmp_path / "j")) == written
    again = make(tmp_path / "j")
    assert (again.seq, again.epoch, again.part_ids) == (50, journal.epoch, {"top": 150})
    written += write(again, 3)
    assert list(read_entries(tmp_path / "j")) == written


def test_everything_survives_a_kill(tmp_path: Path, make: Make) -> None:
    journal = make(tmp_path / "j")
    written = write(journal, 50)
    copy = killed(tmp_path / "j")
    assert list(read_entries(copy)) == written
    again = make(copy)
    assert (again.seq, again.epoch, again.part_ids) == (50, journal.epoch, {"top": 150})


@pytest.mark.parametrize(
    ("closed", "boot", "tainted", "kept"),
    [
        (True, BOOT, False, True),
        (True, OTHER_BOOT, False, True),
        (False, BOOT, False, True),
        (False, OTHER_BOOT, False, False),
        (True, BOOT, True, False),
        (False, BOOT, True, False),
    ],
)
def test_when_the_epoch_changes(
    tmp_path: Path, make: Make, closed: bool, boot: str, tainted: bool, kept: bool
) -> None:
    journal = make(tmp_path / "j")
    written = write(journal, 5)
    if closed:
        journal.close()
    copy = killed(tmp_path / "j")
    if tainted:
        (copy / TAINTED).touch()
    again = make(copy, boot)
    assert (again.epoch == journal.epoch) == kept
    assert (again.seq, again.part_ids) == (5, {"top": 105})
    assert not (copy / TAINTED).exists()
    written += write(again, 2)
    assert list(read_entries(copy)) == written
    again.close()
    assert make(copy, boot).epoch == again.epoch


def test_a_new_epoch_is_kept_over_a_kill(tmp_path: Path, make: Make) -> None:
    write(make(tmp_path / "j"), 5)
    second = make(killed(tmp_path / "j"), OTHER_BOOT)
    third = make(killed(second._folder), OTHER_BOOT)
    assert (third.epoch, third.seq) == (second.epoch, 5)


def test_a_torn_last_record_vanishes_at_every_byte(tmp_path: Path, make: Make) -> None:
    journal = make(tmp_path / "j")
    written = write(journal, 3)
    start = journal._at
    journal.append(entry(4))
    end, path = journal._at, tmp_path / "j/000.journal"
    whole = path.read_bytes()
    copy = killed(tmp_path / "j") / path.name
    for cut in range(start, end):
        copy.write_bytes(whole[:cut] + bytes(len(whole) - cut))
        assert list(read_entries(copy.parent)) == written
    copy.write_bytes(whole)
    assert len(list(read_entries(copy.parent))) == 4


@examples(15)
@given(st.floats(0, 1, exclude_max=True), st.sampled_from([b"\0", b"\xff", b"\xa5"]), st.integers(0, 400))
def test_after_a_torn_record_the_journal_goes_on(
    tmp_path_factory: pytest.TempPathFactory, part: float, filling: bytes, size: int
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    journal = Journal(folder, SMALL, BOOT)
    written = write(journal, 3)
    start = journal._at
    journal.append(entry(4, 200))
    cut = start + int(part * (journal._at - start))
    last = journal._at
    close(journal)
    with (folder / "000.journal").open("r+b") as file:
        file.seek(cut)
        file.write(filling * (last - cut))
    again = Journal(folder, SMALL, BOOT)
    assert again.seq == 3
    written += write(again, 2, size)
    close(again)
    assert list(read_entries(folder)) == written


def test_the_oldest_segment_is_reused_and_its_records_never_come_back(tmp_path: Path, make: Make) -> None:
    journal = make(tmp_path / "j")
    seen = 0
    for _ in range(60):
        written = write(journal, 1, 100_000)
        found = [one.seq for one in read_entries(tmp_path / "j")]
        assert found == list(range(found[0], journal.seq + 1))
        assert list(read_entries(tmp_path / "j"))[-1] == written[0]
        seen = max(seen, len(found))
    assert 10 <= seen <= 20
    assert len(list((tmp_path / "j").iterdir())) == 2
    assert all(file.stat().st_size == 2**20 for file in (tmp_path / "j").iterdir())


@examples(10)
@given(st.lists(st.integers(0, 400_000), min_size=1, max_size=14))
def test_after_any_sizes_the_newest_results_are_there_in_order(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("sizes")
    journal = Journal(folder, SMALL, BOOT)
    for size in sizes:
        write(journal, 1, size)
    found = list(read_entries(folder))
    assert [one.seq for one in found] == list(range(len(sizes) - len(found) + 1, len(sizes) + 1))
    assert found == [entry(one.seq, sizes[one.seq - 1]) for one in found]
    close(journal)
    again = Journal(folder, SMALL, BOOT)
    assert (again.seq, again.epoch) == (len(sizes), journal.epoch)
    assert again.part_ids == {"top": 100 + len(sizes)}
    close(again)


def test_part_ids_of_a_camera_that_was_silent_for_long_are_kept(tmp_path: Path, make: Make) -> None:
    journal = make(tmp_path / "j")
    journal.append(entry(1, camera="side", part_id=77))
    write(journal, 40, 100_000)
    assert "side" not in {one.camera for one in read_entries(tmp_path / "j")}
    journal.close()
    assert make(tmp_path / "j").part_ids == {"side": 77, "top": 141}


def test_part_ids_go_on_from_the_highest(tmp_path: Path, make: Make) -> None:
    """Part 5 was lost and told at once, part 4 was being judged meanwhile: part 5 must not come again."""
    journal = make(tmp_path / "j")
    journal.append(entry(1, part_id=5))
    journal.append(entry(2, part_id=4))
    in_memory = journal.part_ids["top"]
    journal.close()
    assert (in_memory, make(tmp_path / "j").part_ids["top"]) == (5, 5)


@pytest.mark.parametrize("is_killed", [True, False])
def test_part_ids_go_on_behind_the_last_of_a_range(tmp_path: Path, make: Make, is_killed: bool) -> None:
    """By the real message of a range, in the newest segment and in an older one."""
    ledger = Ledger(1)
    journal = make(tmp_path / "j")
    messages = Messages(Identity("a", (False,)), SETUPS, journal, ledger, [Camera("side")], lambda: ("", ""))
    journal.append(messages.entry(gap(5, 1000), unknown(Reason.LOST), 1))
    for filled in (0, 40):  # with segments of 1 MiB, the range is overwritten by the second time
        write(journal, filled, 100_000)
        folder = killed(tmp_path / "j") if is_killed else tmp_path / "j"
        if not is_killed:
            journal.close()
        again = make(folder)
        assert journal.part_ids["side"] == again.part_ids["side"] == 1004
        if not is_killed:
            journal = again


def test_a_kill_in_a_later_segment_keeps_the_epoch(tmp_path: Path, make: Make) -> None:
    journal = make(tmp_path / "j")
    write(journal, 12, 100_000)
    assert make(killed(tmp_path / "j")).epoch == journal.epoch


def test_a_result_larger_than_a_segment_repeats_no_number(tmp_path: Path, make: Make) -> None:
    """1024 regions with 64 contour points each, and segment_mib = 1: the config allows it."""
    journal = make(tmp_path / "j")
    write(journal, 2)
    write(journal, 1, 2**20)
    again = make(killed(tmp_path / "j"))
    assert again.epoch != journal.epoch or again.seq == 3


def test_fewer_segments_repeat_no_number(tmp_path: Path, make: Make) -> None:
    five = JournalConfig(segment_mib=1, segments=5)
    first = make(tmp_path / "j", config=five)  # in segment 1
    write(first, 1)
    first.close()
    second = make(tmp_path / "j", config=five)
    write(second, 25, 100_000)
    assert second._number == 3
    second.close()
    third = make(tmp_path / "j", config=SMALL)  # two segments: 0 and 1
    assert third.epoch != second.epoch and third.seq == 26


def test_a_changed_segment_size_is_a_new_epoch(tmp_path: Path, make: Make) -> None:
    journal = make(tmp_path / "j")
    write(journal, 3)
    journal.close()
    with capture_logs() as logs:
        again = make(tmp_path / "j", config=JournalConfig(segment_mib=2, segments=2))
    assert again.epoch != journal.epoch
    assert list(read_entries(tmp_path / "j")) == []
    assert (again.seq, again.part_ids) == (3, {"top": 103})  # both go on behind what was dropped
    assert [(log["log_level"], log["why"]) for log in logs] == [
        ("warning", "2 files of results, not as journal.segment_mib and journal.segments say, were dropped")
    ]


def test_a_new_epoch_is_logged_with_its_reason(tmp_path: Path, make: Make) -> None:
    with capture_logs() as logs:
        first = make(tmp_path / "j")
        write(first, 3)
        copies = [killed(tmp_path / "j") for _ in range(4)]
        first.close()
        make(tmp_path / "j")
    assert logs == []  # neither the very first nor one that goes on
    (copies[0] / TAINTED).touch()
    (copies[1] / "001.journal").write_bytes(b"?" * 2**20)
    with (copies[2] / "000.journal").open("r+b") as file:
        file.seek(first._at - 20)
        file.write(b"damage")
    with capture_logs() as logs:
        for copy in copies[:3]:
            make(copy)
        make(copies[3], OTHER_BOOT)
    assert [log["why"] for log in logs] == [
        "the journal failed before, and results were not kept",
        "1 files of the journal are damaged, or of another version",
        "the end of the journal is damaged",
        "the power was lost",
    ]
    assert {log["event"] for log in logs} == {"a new epoch begins"}


@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_failure_that_could_not_be_noted_is_noted_later(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, at_the_end: bool
) -> None:
    """The disk was away for a moment: numbers of that moment are on the wire and not here."""
    if at_the_end:
        monkeypatch.setattr("inspectd.publish.journal.writer.SYNC_S", 600.0)  # the helper finds no time for it
    journal = make(tmp_path / "j")
    write(journal, 5)
    with monkeypatch.context() as away:
        away.setattr(os, "pwrite", no_disk)
        away.setattr(Path, "touch", no_disk)
        write(journal, 1)
    assert journal.failure and not (tmp_path / "j" / TAINTED).exists()
    write(journal, 5)
    if at_the_end:
        journal.close()
    until(lambda: (tmp_path / "j" / TAINTED).exists())
    again = make(killed(tmp_path / "j"))
    assert again.epoch != journal.epoch


def no_disk(*_: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_a_segment_is_begun_though_no_descriptor_is_left(tmp_path: Path, make: Make) -> None:
    journal = make(tmp_path / "j")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.open("/dev/null", os.O_RDONLY)
        written = write(journal, 600, 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert journal.failure == "" and len(journal.segments) == 2
    found = list(read_entries(tmp_path / "j"))
    assert len(found) > 100 and found == written[-len(found) :]


def header_of(body: bytes) -> bytes:
    return (b"INSJRNL1" + struct.pack("<II", len(body), zlib.crc32(body)) + body).ljust(PAGE, b"\0")


@pytest.mark.parametrize(
    "damage",
    [b"", b"garbage", bytes(PAGE), b"INSJRNL1" + b"\xff" * PAGE, header_of(b'{"of": "another version"}')],
)
def test_garbage_in_the_folder_is_no_journal(tmp_path: Path, make: Make, damage: bytes) -> None:
    (tmp_path / "j").mkdir()
    for name in ("000.journal", "001.journal"):
        (tmp_path / "j" / name).write_bytes(damage)
    journal = make(tmp_path / "j")
    assert journal.seq == 0
    assert list(read_entries(tmp_path / "j")) == write(journal, 0) == []
    assert write(journal, 2) == list(read_entries(tmp_path / "j"))


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_write_error_is_told_and_the_next_start_is_a_new_epoch(tmp_path: Path, make: Make) -> None:
    journal = make(tmp_path / "j")
    written = write(journal, 2)
    full_disk(journal)
    write(journal, 3)
    assert journal.failure == "results are not kept: No space left on device"
    assert journal.seq == 5  # they went out all the same
    assert (tmp_path / "j" / TAINTED).exists()
    journal.close()
    assert list(read_entries(tmp_path / "j")) == written
    again = make(tmp_path / "j")
    assert again.epoch != journal.epoch
    assert again.failure == ""
    assert not (tmp_path / "j" / TAINTED).exists()


def full_disk(journal: Journal) -> None:
    """From now on nothing can be added."""
    until(lambda: not journal._dirty)
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, journal._fd)
    os.close(full)


@pytest.mark.parametrize("tainted", [True, False])
@pytest.mark.parametrize("earlier", [True, False])
def test_what_a_lost_correction_corrects_is_not_kept_either(
    tmp_path: Path, make: Make, tainted: bool, earlier: bool
) -> None:
    """The first said PASS, on the wire was UNKNOWN. earlier: the helper met the bad disk first."""
    journal = make(tmp_path / "j")
    written = write(journal, 70)
    history = History(journal)
    wrong, corrected = entry(71), entry(71, 50)
    journal.append(wrong)
    full_disk(journal)
    if earlier:
        journal._fail(OSError(5, "Input/output error"))
    journal.append(corrected)
    assert journal.failure and journal.seq == 71
    assert list(read_entries(tmp_path / "j")) == written
    assert history.read(journal.epoch, 65) == Chunk(written[64:], 71)
    assert history.read(journal.epoch, 71) == Chunk([], 71)
    history.close()
    until(lambda: not journal._retired)
    if not tainted:
        (tmp_path / "j" / TAINTED).unlink()  # as on a disk where that can't be made either
    again = make(killed(tmp_path / "j"))
    assert (again.epoch == journal.epoch, again.seq, again.part_ids) == (not tainted, 71, {"top": 171})
    written += write(again, 2)
    assert list(read_entries(again._folder)) == written
    again_history = History(again)
    assert again_history.read(again.epoch, 72) == Chunk(written[-2:], 73)
    again_history.close()


def test_a_correction_that_is_lost_in_the_next_segment(tmp_path: Path, make: Make) -> None:
    journal = make(tmp_path / "j")
    written = write(journal, 2)
    journal.append(entry(3))
    journal._write = lambda kind, payload: (  # type: ignore[method-assign]
        full_disk(journal) if kind == RESULT else None,
        Journal._write(journal, kind, payload),
    )
    journal.append(entry(3, 2**20 - PAGE - 300))  # there is no room behind the first
    assert journal.failure and len(journal.segments) == 2
    assert list(read_entries(tmp_path / "j")) == written


def test_a_correction_that_is_kept_counts(tmp_path: Path, make: Make) -> None:
    journal = make(tmp_path / "j")
    written = write(journal, 2)
    journal.append(entry(3))
    journal.append(entry(3, 50))
    full_disk(journal)
    journal.append(entry(4))
    assert journal.failure
    assert list(read_entries(tmp_path / "j")) == [*written, entry(3, 50)]


def test_an_error_of_the_sync_is_told_too(tmp_path: Path, make: Make) -> None:
    journal = make(tmp_path / "j")
    write(journal, 1)
    until(lambda: not journal._dirty)
    read_end, write_end = os.pipe()
    os.dup2(write_end, journal._fd)  # what can't be synced
    journal._dirty = True
    until(lambda: journal.failure)
    assert journal.failure == "results are not kept: Invalid argument"
    os.close(read_end)
    os.close(write_end)
    assert (tmp_path / "j" / TAINTED).exists()


def test_a_full_disk_is_one_sentence_at_the_start(tmp_path: Path) -> None:
    program = f"""
import resource
from pathlib import Path
from inspectd.settings.publish import JournalConfig as Config
from inspectd.runtime.errors import UnavailableError
from inspectd.publish.journal.writer import Journal
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    Journal(Path({str(tmp_path / "j")!r}), Config(segment_mib=2, segments=3), "boot")
except UnavailableError as error:
    print(error)
"""
    output = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, text=True)
    assert output.stdout == f"the journal {tmp_path}/j can't be made (3 files of 2 MiB): File too large\n"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match=r"can't be made: Not a directory"):
        Journal(tmp_path / "file/j", SMALL, BOOT)


def test_one_daemon_writes_a_journal_whatever_other_lock_the_second_one_holds(tmp_path: Path, make: Make) -> None:
    journal = make(tmp_path / "j")
    written = write(journal, 3)
    with pytest.raises(UnavailableError) as caught:
        make(tmp_path / "j")
    assert str(caught.value) == (
        f"another daemon writes the journal {tmp_path}/j; stop it first, or give this line another state_dir"
    )
    written += write(journal, 3)
    assert list(read_entries(tmp_path / "j")) == written
    journal.close()
    assert make(tmp_path / "j").epoch == journal.epoch


def test_a_start_that_fails_lets_go_of_the_lock(tmp_path: Path, make: Make) -> None:
    (tmp_path / "j").mkdir()
    (tmp_path / "j/000.journal").mkdir()
    with pytest.raises(UnavailableError):
        make(tmp_path / "j")
    (tmp_path / "j/000.journal").rmdir()
    assert make(tmp_path / "j").seq == 0


def test_a_file_that_is_deleted_while_it_is_written_is_told(tmp_path: Path, make: Make) -> None:
    journal = make(tmp_path / "j")
    write(journal, 3)
    journal.segments[-1].path.unlink()
    until(lambda: journal.failure)
    assert journal.failure == "results are not kept: a file of the journal was deleted"
    write(journal, 1)
    assert journal.seq == 4  # it went out all the same
    journal.close()
    again = make(tmp_path / "j")
    assert again.epoch != journal.epoch


def test_the_boot_id_is_the_kernels() -> None:
    assert len(boot_id()) == 36
    assert boot_id() == boot_id()


@examples(40)
@given(
    st.sampled_from(["flip", "delete", "zero segment", "random"]), st.floats(0, 1, exclude_max=True), st.booleans()
)
def test_damage_never_repeats_a_number_in_an_epoch(
    tmp_path_factory: pytest.TempPathFactory, damage: str, where: float, clean: bool
) -> None:
    """(A newest segment whose last records were replaced by zeros can't be told from a killed writer's.)"""
    folder = tmp_path_factory.mktemp("damaged")
    journal = Journal(folder, JournalConfig(segment_mib=1, segments=3), BOOT)
    written = write(journal, 17, 100_000)
    used, newest = journal._at, max(folder.glob("*.journal"), key=lambda p: (p.stat().st_mtime_ns, p.name))
    if not clean:
        journal.failure = "killed"  # no mark of a clean end
    close(journal)
    data = bytearray(newest.read_bytes())
    at = int(where * used)
    match damage:
        case "flip":
            data[at] ^= 0x10
        case "delete":
            newest.unlink()
        case "zero segment":
            data[:] = bytes(len(data))
        case "random":
            data[at : at + 64] = os.urandom(64)
    if damage != "delete":
        newest.write_bytes(data)
    again = Journal(folder, JournalConfig(segment_mib=1, segments=3), BOOT)
    assert again.epoch != journal.epoch or again.seq >= written[-1].seq
    close(again)
