"""Key files: made for their owner alone, read with one clear sentence for whatever is wrong with them."""

import multiprocessing
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
import zmq.auth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspectd.runtime.errors import ConfigError, UserError
from inspectd.wire.keys import Keys, load_clients, load_public, load_secret, write_pair

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refusal(load, path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}") and "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_pair_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    public, secret = write_pair(tmp_path, "hmi")
    assert (public, secret) == (tmp_path / "hmi.key", tmp_path / "hmi.key_secret")
    assert (mode(public), mode(secret)) == (0o644, 0o600)


def test_what_is_written_is_read_here_and_by_pyzmq(tmp_path: Path) -> None:
    public, secret = write_pair(tmp_path / "new/folder", "plc-1.left")
    pair = load_secret(secret)
    assert load_public(public) == pair.public == zmq.curve_public(pair.secret)
    assert zmq.auth.load_certificate(public) == (pair.public, None)
    assert zmq.auth.load_certificate(secret) == tuple(pair)
    assert pair.secret not in public.read_bytes()


def test_what_pyzmq_writes_is_read(tmp_path: Path) -> None:
    public, secret = map(Path, zmq.auth.create_certificates(tmp_path, "old"))
    secret.chmod(0o600)
    assert (load_public(public), *load_secret(secret)) == (
        zmq.auth.load_certificate(public)[0],
        *zmq.auth.load_certificate(secret),
    )


@pytest.mark.parametrize("there", ["hmi.key", "hmi.key_secret"])
def test_nothing_is_overwritten_and_no_half_pair_stays(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(UserError, match=r"exists already and is not overwritten: choose another name") as caught:
        write_pair(tmp_path, "hmi")
    assert str(tmp_path / there) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "hmi.key_secret").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="exists already"):
        write_pair(tmp_path, "hmi")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "-rf", "a b", "ä", "a\n", "x" * 65, "a\0", "*"])
def test_a_name_that_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="can't be the name of a key: up to 64 letters"):
        write_pair(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a file")
    with pytest.raises(UserError, match=r"keys: can't be written|keys exists already"):
        write_pair(tmp_path / "keys", "hmi")
    command = f"ulimit -f 0; trap '' XFSZ; exec {sys.executable} -m inspectd keygen hmi --folder {tmp_path}/full"
    shown = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (shown.returncode, shown.stdout) == (1, "") and shown.stderr.count("\n") == 1, shown.stderr
    assert "hmi.key_secret: can't be written: File too large" in shown.stderr
    assert list((tmp_path / "full").iterdir()) == []


def make(folder: Path, index: int) -> str:
    try:
        public, secret = write_pair(folder, "hmi")
    except UserError as error:
        return str(error)
    return "made" if load_secret(secret).public == load_public(public) else "torn"


def test_of_many_at_once_one_makes_the_pair(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        for round_ in range(20):
            said = pool.starmap(make, [(tmp_path / str(round_), i) for i in range(8)])
            assert said.count("made") == 1, said
            assert sum("exists already" in text for text in said) == 7
            load_secret(tmp_path / str(round_) / "hmi.key_secret")


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o644, 0o620, 0o610, 0o666])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, bits: int) -> None:
    secret = write_pair(tmp_path, "own")[1]
    secret.chmod(bits)
    assert refusal(load_secret, secret).endswith(f"make it yours alone, chmod 600 {secret}")
    secret.chmod(0o400)
    load_secret(secret)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(("owner", "bits", "good"), [(0, 0o440, True), (0, 0o444, False), (1, 0o440, False)])
def test_root_may_lend_a_secret_to_our_group(tmp_path: Path, owner: int, bits: int, good: bool) -> None:
    """What systemd's LoadCredential= makes for a service's user looks so: the group's bit is that of an ACL."""
    secret = write_pair(tmp_path, "own")[1]
    os.chown(secret, owner, 4242)
    secret.chmod(bits)
    code = (
        f"from inspectd.wire.keys import load_secret\n"
        f"from inspectd.runtime.errors import ConfigError\nfrom pathlib import Path\n"
        f"import os; os.setgroups([]); os.setgid(4242); os.setuid(1)\n"
        f"try: load_secret(Path({str(secret)!r})); print('good')\n"
        f"except ConfigError as error: print(error)"
    )
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 1 and str(folder) != "/":
            folder.chmod(folder.stat().st_mode | 0o011)
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (shown.stdout == "good\n") == good, shown.stdout + shown.stderr


def test_a_public_file_is_not_taken_for_a_secret_one_nor_the_reverse(tmp_path: Path) -> None:
    public, secret = write_pair(tmp_path, "own")
    assert "the secret one is wanted, in the .key_secret file beside it" in refusal(load_secret, public)
    assert "the public one is wanted, in the .key file beside it" in refusal(load_public, secret)


def test_halves_of_two_pairs_are_no_pair(tmp_path: Path) -> None:
    own, other = (write_pair(tmp_path, name) for name in ("own", "other"))
    foreign = load_public(other[0]).decode()
    own[1].write_text(own[1].read_text().replace(load_public(own[0]).decode(), foreign))
    assert "not of one pair" in refusal(load_secret, own[1])


def test_what_is_no_file_is_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.key")
    (tmp_path / "folder.key").mkdir()
    (tmp_path / "huge.key").write_bytes(b"#" * 10**6)
    for load in (load_public, load_secret):
        assert "the key file does not exist; `inspectd keygen` makes keys" in refusal(load, tmp_path / "none.key")
        assert "the key file can't be read" in refusal(load, tmp_path / "no\0ne.key")
        for name in ("fifo.key", "folder.key", "huge.key"):
            said = refusal(load, tmp_path / name)
            assert "this is no key file" in said or "can't be read: Is a directory" in said


PUBLIC, SECRET = zmq.curve_keypair()
GOOD = f'curve\n    public-key = "{PUBLIC.decode()}"\n'.encode()


@QUICK
@given(st.binary(max_size=300) | st.text().map(str.encode))
def test_no_content_is_more_than_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.key"
    path.write_bytes(content)
    path.chmod(0o600)
    assert "this is no key file" in refusal(load_public, path) or b"-key" in content
    refusal(load_secret, path)


@QUICK
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.sampled_from(["cut", "change", "insert"]))
def test_a_damaged_file_is_refused_or_still_a_key(tmp_path: Path, at: int, byte: int, how: str) -> None:
    path = tmp_path / "x.key"
    rest = {"cut": b"", "change": GOOD[at + 1 :], "insert": GOOD[at:]}[how]
    path.write_bytes(GOOD[:at] + (bytes([byte]) if how != "cut" else b"") + rest)
    try:
        key = load_public(path)
    except ConfigError as error:
        assert "\n" not in str(error) and str(error).startswith(f"{path}: ")
    else:
        assert len(key) == 40 and len(zmq.utils.z85.decode(key)) == 32
        assert sum(a != b for a, b in zip(key, PUBLIC, strict=True)) <= 1


@pytest.mark.parametrize(
    "text", ["", "0" * 39, "0" * 41, "#" * 40, "é" * 20, "0" * 39 + "é", " " * 40, "\u2028" * 40]
)
def test_only_z85_is_a_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.key"
    path.write_text(f'public-key = "{text}"\n')
    assert "its public-key is damaged, it must be 40 characters of Z85" in refusal(load_public, path)


class TestClients:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for domain, name in (("read", "scada"), ("control", "hmi")):
            public, secret = write_pair(tmp_path / "clients" / domain, name)
            secret.rename(tmp_path / secret.name)
            assert public.exists()
        return tmp_path / "clients"

    def test_who_may_control_may_read(self, folder: Path) -> None:
        clients = load_clients(folder)
        assert {domain: sorted(names.values()) for domain, names in clients.items()} == {
            "read": ["hmi", "scada"],
            "control": ["hmi"],
        }
        assert clients["control"] == {load_public(folder / "control/hmi.key"): "hmi"}

    def test_other_files_are_nothing_to_us(self, folder: Path) -> None:
        (folder / "read/README").write_text("who is who")
        (folder / "read/old.key~").write_text("x")
        (folder / "more.key").write_text("x")
        assert len(load_clients(folder)["read"]) == 2

    def test_a_folder_may_be_missing_but_not_both(self, folder: Path) -> None:
        (folder / "control/hmi.key").unlink()
        (folder / "control").rmdir()
        assert load_clients(folder)["control"] == {}
        assert "publish.client_keys: the folder can't be read: No such file" in refusal(
            load_clients, folder / "gone"
        )
        (folder / "control").write_text("a file")
        with pytest.raises(
            ConfigError, match=r"control: publish.client_keys: the folder can't be read: Not a dir"
        ):
            load_clients(folder)

    @pytest.mark.parametrize(
        ("name", "said"),
        [("read/bad.key", "this is no key file"), ("control/bad name.key", "a key's name is up to 64 letters")],
    )
    def test_a_bad_file_is_named(self, folder: Path, name: str, said: str) -> None:
        (folder / name).write_text("?")
        with pytest.raises(ConfigError) as caught:
            load_clients(folder)
        assert str(caught.value).startswith(f"{folder / name}: {said}")

    def test_one_key_has_one_name(self, folder: Path) -> None:
        (folder / "read/twin.key").write_bytes((folder / "read/scada.key").read_bytes())
        with pytest.raises(ConfigError, match=r"twin.key: this is also the key scada.key: one key, one name"):
            load_clients(folder)

    def test_a_secret_has_no_place_there(self, folder: Path) -> None:
        (folder / "read/hmi.key").write_bytes((folder.parent / "hmi.key_secret").read_bytes())
        with pytest.raises(ConfigError, match="this holds a secret key"):
            load_clients(folder)


def test_keys_for_a_socket(tmp_path: Path) -> None:
    server, own = write_pair(tmp_path, "server")[0], write_pair(tmp_path, "own")[1]
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        Keys(str(server), own).use(socket)  # test_security.py connects with them
        with pytest.raises(ConfigError, match="the key file does not exist"):
            Keys(tmp_path / "gone.key", own).use(socket)
