"""The sockets' files, deleted while the daemon runs: missed, told, and bound again."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from structlog.testing import capture_logs

from inspectd.publish.endpoints import KEPT_LISTENERS, Endpoints
from inspectd.runtime.locks import LockFile
from inspectd.settings.publish import Publish
from inspectd.subscribe import Beat, Results
from tests.makers import frame
from tests.ports import free_endpoint
from tests.publish.lines import Line, connected, heard, results


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Endpoints]:
    made = Endpoints(Publish(results=f"ipc://{tmp_path}/line/results"))
    yield made
    made.close()


KEYS = ("results", "query", "control")


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "line"


def test_a_new_subscriber_hears_the_line_though_the_socket_was_deleted_and_an_old_one_hears_on(
    line: Line, tmp_path: Path
) -> None:
    with Results(line.endpoint) as old:
        connected(old)
        for number in range(1, 4):
            (tmp_path / "z").unlink()
            (tmp_path / "query").unlink()
            with Results(line.endpoint, start="oldest") as new:
                connected(new)  # by itself, when the file is there again
                line.put(frame(number, slot=0))
                assert results(old, 1)[0].seq == number
                assert [one.seq for one in results(new, number)] == list(range(1, number + 1))
        assert stat.S_IMODE((tmp_path / "z").stat().st_mode) == 0o660
        assert line.publisher.trouble == ""


@pytest.mark.parametrize("key", KEYS)
def test_each_is_bound_again_and_it_is_told_once(ends: Endpoints, tmp_path: Path, key: str) -> None:
    path = folder_of(tmp_path) / key
    path.unlink()
    with capture_logs() as logs:
        assert ends.look() == ends.look() == ""
    assert path.is_socket() and stat.S_IMODE(path.stat().st_mode) == 0o660
    assert [log["socket"].partition(":")[0] for log in logs] == [f"publish.{key}"]
    assert {log["log_level"] for log in logs} == {"error"}


def test_deleted_again_and_again_it_takes_a_bounded_number_of_descriptors(ends: Endpoints, tmp_path: Path) -> None:
    path, counts = folder_of(tmp_path) / "query", []
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.connect(f"ipc://{path}")
        for number in range(3 * KEPT_LISTENERS):
            path.unlink()
            assert ends.look() == ""
            counts.append(len(os.listdir("/proc/self/fd")))
            heard_last = b""
            while heard_last != b"%d" % number:  # what is on its way as a connection ends has to be asked again
                client.send(b"%d" % number)
                if ends.query.poll(200):
                    heard_last = ends.query.recv_multipart()[1]
    assert max(counts) - counts[0] <= KEPT_LISTENERS + 2


def test_the_whole_folder_is_made_again(ends: Endpoints, tmp_path: Path) -> None:
    shutil.rmtree(folder_of(tmp_path))
    assert ends.look() == ""
    assert sorted(path.name for path in folder_of(tmp_path).iterdir()) == sorted(
        [*KEYS, *(f"{key}.lock" for key in KEYS)]
    )
    assert stat.S_IMODE(folder_of(tmp_path).stat().st_mode) == 0o750


def test_what_somebody_has_put_there_is_told_and_not_taken_away(ends: Endpoints, tmp_path: Path) -> None:
    path = folder_of(tmp_path) / "query"
    path.unlink()
    path.write_text("someone's own")
    trouble = f"publish.query: ipc://{path}: its file was deleted, and something else lies there now: remove that"
    assert ends.look() == trouble and path.read_text() == "someone's own"
    path.unlink()
    assert ends.look() == "" and path.is_socket()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_program_that_listens_there_now_is_told_and_when_it_is_gone_the_path_is_ours(
    ends: Endpoints, tmp_path: Path, kind: int
) -> None:
    path = folder_of(tmp_path) / "results"
    path.unlink()
    with socket.socket(socket.AF_UNIX, kind) as program:
        program.bind(str(path))
        program.listen()
        assert "something else lies there now" in ends.look()
    assert path.is_socket() and ends.look() == ""


def test_another_daemon_that_took_the_lock_meanwhile_is_told(ends: Endpoints, tmp_path: Path) -> None:
    lock = folder_of(tmp_path) / "results.lock"
    lock.unlink()
    (folder_of(tmp_path) / "results").unlink()
    second = LockFile(lock)  # of this process, but by another descriptor: the same to the kernel
    assert "holds it now: end that one" in ends.look() and not (folder_of(tmp_path) / "results").exists()
    second.close()
    assert ends.look() == "" and (folder_of(tmp_path) / "results").is_socket()


def test_the_publisher_has_the_trouble_for_the_lines_state(line: Line, tmp_path: Path) -> None:
    with Results(line.endpoint) as subscriber:
        connected(subscriber)
        (tmp_path / "z").unlink()
        (tmp_path / "z").mkdir()
        heard(subscriber, lambda event: isinstance(event, Beat) and line.publisher.trouble)
        assert "something else lies there now" in line.publisher.trouble
        (tmp_path / "z").rmdir()
        heard(subscriber, lambda event: isinstance(event, Beat) and not line.publisher.trouble)


def test_a_tcp_endpoint_has_no_file() -> None:
    ends = Endpoints(Publish(results=free_endpoint()))
    assert ends.look() == ""
    ends.close()


CROWD = """
import socket, sys
kept = []
for _ in sys.stdin:
    try:
        for _ in range(8):
            kept.append(socket.socket(socket.AF_UNIX))
            kept[-1].connect(sys.argv[1])
    except OSError:
        break
    print(len(kept), flush=True)
print("no more", flush=True)
sys.stdin.read()
"""
DAEMON = """
import json, resource, subprocess, sys, time
from pathlib import Path
from inspectd.publish.endpoints import Endpoints
from inspectd.settings.publish import Publish
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
folder = Path(sys.argv[1])
ends = Endpoints(Publish(results=f"ipc://{folder}/results"))
crowd = subprocess.Popen([sys.executable, "-c", sys.argv[2], f"{folder}/query"], stdin=-1, stdout=-1, text=True)
connected, said = 0, ""
while connected != "no more":
    print("more", file=crowd.stdin, flush=True)
    connected, most = crowd.stdout.readline().strip(), connected
    said = ends.look()
assert said and not any((folder / key).exists() for key in ("results", "query", "control"))
crowd.communicate()
while ends.look():
    time.sleep(0.01)
assert (folder / "query").is_socket()
print(json.dumps([said, int(most)]))
"""


def test_a_crowd_that_takes_all_descriptors_does_not_end_the_daemon(tmp_path: Path) -> None:
    """libzmq aborts the process at the limit, so it is one of its own."""
    command = [sys.executable, "-c", DAEMON, str(tmp_path), CROWD]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stderr)
    said, connected = json.loads(done.stdout.splitlines()[-1])
    assert said == "3 Unix sockets take nobody more: hardly any descriptor is left" and 100 < connected < 500
