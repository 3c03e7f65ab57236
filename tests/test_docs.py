"""Every command and program that README and docs show is run as it stands there."""

import importlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import zmq

from inspectd.bench.scenarios import scenarios
from inspectd.subscribe import Results
from inspectd.wire.keys import Keys
from inspectd_train.dev.pycuda_wheel import wheel_name
from tests.acquire.sims import needs_simcam
from tests.lines import Line, collect, results_of, state_is, stop
from tests.ports import free_endpoint

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
KEYGEN = ["inspectd keygen line1", "inspectd keygen hmi"]
DEFAULT = "tcp://127.0.0.1:5556"
BIN = Path(sys.executable).parent
TRIGGER = "inspectd simcam trigger --count 20 --rate-hz 50 -c config.toml"
WHEEL = "python -m inspectd_train.dev.pycuda_wheel --out wheels"
STEERED = {
    "inspectd ctl status": "recipe ballscrew",
    "inspectd ctl select ballscrew": "switched between two parts",
    "inspectd ctl swap models/ballscrew": "model ballscrew",
    'inspectd ctl pause "changing the lamp"': "changing the lamp",
    "inspectd ctl resume": "resumed: ContinuousExecution",
    "inspectd ctl trigger top A-4711": "camera top triggered",
    "inspectd ctl reset-counters": "camera top was at",
}
FAULT = "inspectd simcam fault unplug 1.5 -c config.toml"


def blocks(language: str) -> list[str]:
    return [b for d in DOCUMENTS for b in re.findall(rf"```{language}\n(.*?)```", d.read_text(), re.DOTALL)]


COMMANDS = sorted({line for block in blocks("sh") for line in block.splitlines()})


def activated() -> dict[str, str]:
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}


def run_as_shown(command: str, cwd: Path, timeout_s: float = 250) -> subprocess.CompletedProcess[str]:
    path = f"{BIN}:{os.environ['PATH']}"
    return subprocess.run(
        shlex.split(command),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "PATH": path},
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a user has after `make run`, on another port."""
    for name in ("Makefile", "pyproject.toml", "setup.py", "constraints.txt", "config.toml"):
        text = (ROOT / name).read_text().replace(DEFAULT, f"ipc://{tmp_path}/results")
        (tmp_path / name).write_text(text)
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for program in ("python", "inspectd", "inspectd-train"):
        (tmp_path / ".venv/bin" / program).symlink_to(BIN / program)
    (tmp_path / ".venv/run.stamp").touch()
    return tmp_path


def test_the_documents_show_these_commands_and_no_others() -> None:
    """A new command in a document needs its test below."""
    tested = {"make run", "make test", "inspectd --help", "inspectd run -c config.toml", "inspectd watch"}
    tested |= {"inspectd watch --json --count 50", "inspectd check -c config.toml", "inspectd bench"}
    tested |= {"inspectd replay models/ballscrew/parts", "inspectd bench faults --json", "inspectd doctor camera"}
    tested |= {"inspectd doctor camera -c config.toml"}
    tested |= {"inspectd cameras -c config.toml", "inspectd cameras features top -c config.toml"}
    tested |= {"inspectd cameras snapshot top -o top.png -c config.toml", TRIGGER, FAULT}
    tested |= {"inspectd doctor gpu -c config.toml", WHEEL, *KEYGEN, *STEERED}
    tested |= {"inspectd bench wire", "inspectd bench crowd", "inspectd bench overload"}
    assert {c for c in COMMANDS if not c.startswith("inspectd-train")} == tested


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("inspectd --help", "watch"),
        ("inspectd check -c config.toml", "golden test within"),
        ("inspectd replay models/ballscrew/parts", "part_000.jpg"),
    ],
)
def test_a_command_that_ends_by_itself(clone: Path, command: str, said: str) -> None:
    shown = run_as_shown(command, clone)
    assert shown.returncode == 0 and said in shown.stdout, shown.stderr


@needs_simcam
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("inspectd cameras -c config.toml", "SIM-top"),
        ("inspectd cameras features top -c config.toml", "ExposureTime"),
        ("inspectd cameras snapshot top -o top.png -c config.toml", "top.png"),
    ],
)
def test_a_command_that_looks_at_cameras(clone: Path, command: str, said: str) -> None:
    run_as_shown("inspectd check -c config.toml", clone)  # makes the simulated camera, as any opening does
    shown = run_as_shown(command, clone)
    assert shown.returncode == 0 and said in shown.stdout, shown.stderr


def test_doctor_camera(clone: Path) -> None:
    shown = run_as_shown("inspectd doctor camera", clone)
    assert shown.returncode in (0, 1) and "net.core.rmem" in shown.stdout, shown.stderr
    found = [json.loads(row) for row in run_as_shown("inspectd doctor camera --json", clone).stdout.splitlines()]
    assert (shown.returncode == 1) == any(finding["status"] == "fail" for finding in found)
    assert all(finding["remedy"] for finding in found if finding["status"] in ("warn", "fail"))


@needs_simcam
def test_doctor_camera_of_a_line(clone: Path) -> None:
    shown = run_as_shown("inspectd doctor camera -c config.toml", clone)
    assert shown.returncode in (0, 1) and "camera top: opened, 0.59 MB a picture, 10 a second" in shown.stdout


def test_doctor_gpu(clone: Path) -> None:
    """Here without a driver, mostly; tests/engine/tensorrt/test_gpu_line.py has it measure on the stand-in."""
    shown = run_as_shown("inspectd doctor gpu -c config.toml", clone)
    measured = shown.returncode in (0, 1) and "copy to the GPU, ring" in shown.stdout
    assert measured or (shown.returncode == 69 and 'kind = "openvino"' in shown.stderr), shown.stderr


def test_a_wheel_of_pycuda(tmp_path: Path) -> None:
    """Building one takes minutes and is `make venv`'s job: here it lies there already."""
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / wheel_name()).touch()
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    shown = subprocess.run(shlex.split(WHEEL), cwd=tmp_path, capture_output=True, text=True, env=env)
    assert shown.returncode == 0 and shown.stdout.strip().endswith(wheel_name()), shown.stderr


@needs_simcam
def test_playing_the_machine_around_the_camera(clone: Path) -> None:
    config = clone / "config.toml"
    config.write_text(config.read_text().replace('trigger = "free_run"', 'trigger = "line"'))
    daemon = subprocess.Popen(
        shlex.split("inspectd run -c config.toml"), cwd=clone, env=activated(), stderr=subprocess.DEVNULL
    )
    with Results(f"ipc://{clone}/results") as subscriber:
        collect(subscriber, state_is("ContinuousExecution"))
        assert "20 pulses" in run_as_shown(TRIGGER, clone).stdout
        collect(subscriber, lambda e: bool(r := results_of(e[-1:])) and r[0].result.part_id == 20)
        assert run_as_shown(FAULT, clone).returncode == 0
        collect(subscriber, state_is("Preoperational"))
        collect(subscriber, state_is("ContinuousExecution"))
    assert stop(daemon) == 0


@needs_simcam
def test_steering(clone: Path) -> None:
    config = clone / "config.toml"
    text = config.read_text().replace('trigger = "free_run"', 'trigger = "software"', 1)
    config.write_text(text.replace('part_id = "counter"', "", 1))
    daemon = subprocess.Popen(
        shlex.split("inspectd run -c config.toml"), cwd=clone, env=activated(), stderr=subprocess.DEVNULL
    )
    with Results(f"ipc://{clone}/results") as subscriber:
        collect(subscriber, state_is("ContinuousExecution"))
    for command, said in STEERED.items():
        shown = run_as_shown(f"{command} --connect ipc://{clone}/control", clone)
        assert shown.returncode == 0 and said in shown.stdout, (command, shown.stdout, shown.stderr)
    assert stop(daemon) == 0


def hears(endpoint: str, keys: Keys | None, timeout_s: float) -> bool:
    with zmq.Context() as context, context.socket(zmq.SUB) as reader:
        reader.setsockopt(zmq.LINGER, 0)
        reader.setsockopt(zmq.SUBSCRIBE, b"res/")
        if keys is not None:
            keys.use(reader)
        reader.connect(endpoint)
        return bool(reader.poll(timeout_s * 1000))


def test_a_line_with_keys_as_shown(clone: Path) -> None:
    """The files lie as the tables of operations.md say; the daemon runs on tcp and lets only the listed key in."""
    for command in KEYGEN:
        assert run_as_shown(command, clone).returncode == 0
    lines = [row for row in (ROOT / "docs/operations.md").read_text().splitlines() if row.startswith("| `")]
    server, clients, hmi = [shown for row in lines if "keys/" in (shown := row.split("`")[1])][:3]
    (clone / hmi).parent.mkdir(parents=True)
    (clone / "keys/hmi.key").rename(clone / hmi)
    endpoint = free_endpoint()
    config = clone / "config.toml"
    text = config.read_text().replace(f"ipc://{clone}/results", endpoint)
    config.write_text(text.replace("[publish]\n", f"[publish]\n{server}\n{clients}\n"))
    shown = run_as_shown("inspectd check -c config.toml", clone)
    assert "keys: may read: hmi; may control: hmi\n" in shown.stdout, shown.stderr
    with (clone / "log").open("w") as log:
        daemon = subprocess.Popen(
            shlex.split("inspectd run -c config.toml"), cwd=clone, env=activated(), stderr=log
        )
    assert hears(endpoint, Keys(clone / "keys/line1.key", clone / "keys/hmi.key_secret"), 30)
    assert not hears(endpoint, None, 0.5)
    line1 = Keys(clone / "keys/line1.key", clone / "keys/line1.key_secret")
    assert not hears(endpoint, line1, 0.5)
    shutil.copy(clone / "keys/line1.key", clone / hmi.replace("hmi", "line1"))
    daemon.send_signal(signal.SIGHUP)
    assert any(hears(endpoint, line1, 1) for _ in range(10)), (clone / "log").read_text()
    assert stop(daemon) == 0
    said = (clone / "log").read_text()
    assert 2 <= said.count("handshake failed") <= 5  # by kind and peer, known or not
    assert "peer=127.0.0.1" in said and "is not listed" in said
    (clone / hmi).write_text("?")
    for command in ("inspectd run -c config.toml", "inspectd check -c config.toml"):
        shown = run_as_shown(command, clone)
        assert (
            shown.returncode == 78 and shown.stderr.count("\n") == 1 and "hmi.key: this is no key" in shown.stderr
        )


def test_bench(clone: Path) -> None:
    shown = run_as_shown("inspectd bench --seconds 1 --rounds 1", clone)  # the default takes a minute
    assert shown.returncode == 0 and shown.stdout.count("ratio") == 2, shown.stderr


UNPLUGGED = ["unplugged for 1 s", "unplugged for 1 s, power lost"]
SOME_FAULTS = ["none", "drop 3 frames", *UNPLUGGED, "camera process killed"]
SOME = f"""
from inspectd.__main__ import main
from inspectd.bench import faults
every = faults.scenarios()
faults.scenarios = lambda: [one for one in every if one.name in {SOME_FAULTS}]
main()
"""


def check_faults(shown: subprocess.CompletedProcess[str], count: int) -> list[dict[str, Any]]:
    assert shown.returncode == 0, shown.stderr
    played: list[dict[str, Any]] = json.loads(shown.stdout)["scenarios"]
    assert len(played) == count
    assert [s for s in played if not s["balanced"] or s["wrong_pictures"] or s["trouble"]] == []
    assert all(s["triggered"] > 0 and s["results_total"] == sum(s["results"].values()) for s in played)
    assert all(s["recovery_s"] is not None for s in played if s["name"] in UNPLUGGED)
    return played


@needs_simcam
def test_bench_faults_finds_the_books_balanced(clone: Path) -> None:
    """Some of its faults; all take many minutes."""
    check_faults(run_as_shown(shlex.join(["python", "-c", SOME, "bench", "faults", "--json"]), clone), 5)


@needs_simcam
@pytest.mark.proof
@pytest.mark.timeout(3700)
def test_bench_faults_finds_every_book_balanced(clone: Path) -> None:
    played = check_faults(run_as_shown("inspectd bench faults --json", clone, 3600), len(scenarios()))
    assert [s for s in played if s["recovery_s"] is not None and s["recovery_s"] > s["within_s"]] == []
    assert all(s["recovery_s"] <= 2.0 for s in played if s["name"] in UNPLUGGED)


def test_bench_wire(clone: Path) -> None:
    shown = run_as_shown("inspectd bench wire --count 200", clone)  # the default takes half a minute
    assert shown.returncode == 0 and "journal append" in shown.stdout, shown.stderr
    found = json.loads(run_as_shown("inspectd bench wire --count 200 --json", clone).stdout)
    steps = [(cost["step"], cost["transport"], cost["regions"]) for cost in found["costs"]]
    assert len(set(steps)) == len(steps) == 12 and all(0 < cost["p50_us"] < 10_000 for cost in found["costs"])
    assert found["kept"] == all(cost["p50_us"] <= cost["bar_us"] for cost in found["costs"])
    assert not list((clone / "state/line1").glob("tmp*"))


@needs_simcam
def test_bench_crowd(clone: Path) -> None:
    shown = run_as_shown("inspectd bench crowd --seconds 2 --rounds 1 --json", clone)  # the default takes minutes
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    (only,) = found["rounds"]
    assert found["wrong"] == 0 and only["refused"] > 10 and only["answered"] > 10
    assert min(only["alone"]["results"], only["crowd"]["results"]) > 5


@needs_simcam
@pytest.mark.alone
def test_bench_overload(clone: Path) -> None:
    """A short form, with little asked: other programs may take much of the machine, and more of it later."""
    shown = run_as_shown("inspectd bench overload --seconds 2 --rounds 1 --rate 200 --json", clone)
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert [load["in_step"] for load in found["loads"]] == [False, True]
    assert all(load["exact"] for load in found["loads"])
    if found["saturated_hz"] < 20:
        pytest.skip("other programs leave the engine too little: a single inference takes most of a deadline")
    for load in found["loads"]:
        assert load["ratio"] > 0.2 and load["share"] > 0.1, load


@needs_simcam
@pytest.mark.proof
@pytest.mark.timeout(1200)
def test_bench_overload_keeps_the_output_and_shares_it(clone: Path) -> None:
    shown = run_as_shown("inspectd bench overload --seconds 10 --rounds 5 --json", clone, timeout_s=1100)
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert len(found["loads"]) == 8
    for load in found["loads"]:
        assert load["exact"] and load["ratio"] >= 0.95 and load["share"] >= 0.8, load


@needs_simcam
def test_bench_acquire(clone: Path) -> None:
    shown = run_as_shown("inspectd bench acquire --json", clone)
    assert shown.returncode == 0, shown.stderr
    latency, rate = (json.loads(row) for row in shown.stdout.splitlines())
    assert latency["frames"] == 300 and rate["frames"] > 2000


def test_make_run_inspects_until_ctrl_c(clone: Path) -> None:
    """The installation is there (the fixture's stamp): it starts within seconds."""
    start_s = time.monotonic()
    made = subprocess.Popen(
        ["make", "run"], cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    assert made.stdout is not None
    rows = [row for row in (made.stdout.readline() for _ in range(30)) if " top " in row]
    started_s = time.monotonic() - start_s
    os.killpg(made.pid, signal.SIGINT)
    out, err = made.communicate(timeout=30)
    assert len(rows) >= 28 and started_s < 30
    assert "PASS" in "".join(rows) and "FAIL" in "".join(rows), rows
    assert "Traceback" not in out + err


def test_make_run_says_in_words_what_it_does_first(clone: Path) -> None:
    """No line of the Makefile is echoed, and nothing is silent for long: neither installation nor start."""
    makefile = (ROOT / "Makefile").read_text()
    for target in ("run", "$(VENV)/run.stamp", "$(BIN)/python"):
        rule = makefile.partition(f"\n{target}:")[2].split("\n\n")[0]
        recipe = [row for row in rule.splitlines() if row.startswith("\t")]
        assert recipe and all(row.startswith("\t@") for row in recipe), target
        assert any(row.startswith("\t@echo ") for row in recipe), target
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
    process = subprocess.Popen(
        ["make", "run"], cwd=clone, env=alone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        process_group=0,
    )  # fmt: skip
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(2)]
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert said[0] == "starting the line of config.toml: Ctrl-C ends it\n"
    assert said[1].startswith("checking config.toml, its recipes and models"), said


def test_make_test_runs_lint_and_pytest(clone: Path) -> None:
    (clone / ".venv/dev.stamp").touch()
    shown = run_as_shown("make -n test", clone)
    assert [word in shown.stdout for word in ("ruff check", "mypy", "lint-imports", "-m pytest")] == [True] * 4


def test_run_and_watch_in_two_shells(clone: Path) -> None:
    env = activated()
    command = shlex.split("inspectd run -c config.toml")
    daemon = subprocess.Popen(command, cwd=clone, env=env, stderr=subprocess.DEVNULL)
    endpoint = f" --connect ipc://{clone}/results"
    shown = run_as_shown("inspectd watch --json --count 50" + endpoint, clone)
    assert shown.returncode == 0 and len(shown.stdout.splitlines()) == 50
    watcher = subprocess.Popen(
        shlex.split("inspectd watch" + endpoint), env=env, stdout=subprocess.PIPE, text=True
    )
    assert watcher.stdout is not None and " top " in watcher.stdout.readline()
    watcher.send_signal(signal.SIGINT)
    watcher.communicate()
    assert stop(daemon) == 0


def programs() -> list[str]:
    """All Python of the documents: the two of README, each with a test below."""
    found = blocks("python")
    assert len(found) == 2
    return found


def test_the_readme_program_prints_results(line: Line, tmp_path: Path) -> None:
    program, _ = programs()
    (tmp_path / "own.py").write_text(program.replace(DEFAULT, line.endpoint))
    daemon = line.start()
    with Results(line.endpoint) as subscriber:
        collect(subscriber, lambda e: len(results_of(e)) >= 1)
    own = line.spawn([sys.executable, "-u", tmp_path / "own.py"], stdout=subprocess.PIPE, cwd=ROOT)
    assert own.stdout is not None
    printed = [own.stdout.readline() for _ in range(4)]
    assert stop(daemon) == 0
    while "silent" not in (printed := [*printed, own.stdout.readline()])[-1]:
        pass
    own.kill()
    own.communicate()
    assert any("PASS []" in text for text in printed) and any("FAIL [('spot', (" in text for text in printed)


def test_the_readme_program_goes_on_where_it_ended(line: Line, tmp_path: Path) -> None:
    _, program = programs()
    (tmp_path / "own.py").write_text(program.replace(DEFAULT, line.endpoint))
    daemon = line.start()
    printed: list[int] = []
    for wanted in (5, 10):
        own = line.spawn([sys.executable, tmp_path / "own.py"], stdout=subprocess.PIPE, cwd=tmp_path)
        assert own.stdout is not None
        while len(printed) < wanted:
            printed.append(int(own.stdout.readline().split()[0]))
        while not (tmp_path / "cursor.json").is_file():
            time.sleep(0.01)
        own.send_signal(signal.SIGINT)
        rest = own.communicate()[0].splitlines()
        printed += [int(row.split()[0]) for row in rest if row[:1].isdigit()]
        kept = json.loads((tmp_path / "cursor.json").read_text())[1]
        assert kept in (printed[-1], printed[-1] - 1)  # ended between the two lines
        printed = printed[: printed.index(kept) + 1]
    assert stop(daemon) == 0
    assert printed == list(range(1, len(printed) + 1))


@pytest.mark.parametrize("module", ["client", "control"])
def test_the_program_of_a_docstring_runs(line: Line, module: str) -> None:
    text = importlib.import_module(f"inspectd.subscribe.{module}").__doc__
    assert text is not None
    program = textwrap.dedent("".join(row for row in text.splitlines(True) if row[:4].isspace()))
    program = program.replace(DEFAULT, line.endpoint).replace(
        "tcp://127.0.0.1:5558", f"ipc://{line.folder}/control"
    )
    daemon = line.start()
    with Results(line.endpoint) as subscriber:
        collect(subscriber, lambda e: len(results_of(e)) >= 1)
    own = line.spawn([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, cwd=ROOT)
    assert own.stdout is not None
    assert re.search("ContinuousExecution|PASS|FAIL", own.stdout.readline())
    own.kill()
    own.communicate()
    assert stop(daemon) == 0
