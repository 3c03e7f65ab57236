"""`inspectd doctor camera`, on trees with the files of a kernel, and on this machine."""

import resource
import shlex
import shutil
import subprocess
from pathlib import Path

import genicam
import msgspec
import pytest

from inspectd.doctor.camera import ask_here, camera_findings
from inspectd.doctor.finding import Finding
from tests.bundles import write_bundle
from tests.doctor.machine import CAMERA, KERNEL, NODE, POLICY, Machine, assert_well_formed, unprivileged
from tests.lines import Line, inspectd


def test_all_is_well(machine: Machine) -> None:
    findings = machine.findings()
    assert {check: f.status for check, f in findings.items() if f.status != "ok"} == {
        "GENICAM_GENTL64_PATH": "skipped"
    }
    assert list(findings) == [
        "eth1 MTU",
        "eth1 speed",
        "eth1 rp_filter",
        "eth1 missed",
        "eth1 damaged",
        "eth1 network",
        "net.core.rmem_max",
        "net.core.rmem_default",
        "net.core.netdev_max_backlog",
        "UDP receive buffer",
        "UDP errors",
        "softnet",
        "USB 2-1 speed",
        "USB 2-1 permission",
        "USB 2-1 autosuspend",
        "usbcore.usbfs_memory_mb",
        "CPU governor",
        "CPU idle states",
        "RLIMIT_RTPRIO",
        "RLIMIT_MEMLOCK",
        "GENICAM_GENTL64_PATH",
    ]


@pytest.mark.parametrize(
    ("check", "file", "text", "found", "remedy"),
    [
        ("eth1 MTU", "sys/class/net/eth1/mtu", "1500", "1500 bytes", "sudo ip link set dev eth1 mtu 9000; "),
        ("eth1 MTU", "sys/class/net/eth1/mtu", "8999", "8999 bytes", "MTUBytes=9000"),
        ("eth1 speed", "sys/class/net/eth1/speed", "100", "100 Mbit/s", "sudo ethtool -s eth1 autoneg on"),
        (
            "eth1 rp_filter",
            "proc/sys/net/ipv4/conf/eth1/rp_filter",
            "1",
            "1",
            "sudo sysctl -w net/ipv4/conf/eth1/rp_filter=2; ",
        ),
        (
            "net.core.rmem_max",
            "proc/sys/net/core/rmem_max",
            "212992",
            "212992 bytes",
            "sudo sysctl -w net.core.rmem_max=33554432; to keep it: echo net.core.rmem_max=33554432 | sudo tee -a "
            "/etc/sysctl.d/90-inspectd.conf",
        ),
        (
            "net.core.rmem_default",
            "proc/sys/net/core/rmem_default",
            "212992",
            "212992 bytes",
            "sudo sysctl -w net.core.rmem_default=16777216; ",
        ),
        (
            "net.core.netdev_max_backlog",
            "proc/sys/net/core/netdev_max_backlog",
            "1000",
            "1000 packets",
            "sudo sysctl -w net.core.netdev_max_backlog=10000; ",
        ),
        ("USB 2-1 speed", f"{CAMERA}/speed", "480", "480 Mbit/s", "USB3 port"),
        (
            "usbcore.usbfs_memory_mb",
            "sys/module/usbcore/parameters/usbfs_memory_mb",
            "16",
            "16 MB",
            "usbcore.usbfs_memory_mb=1000 in GRUB_CMDLINE_LINUX",
        ),
        (
            "CPU governor",
            POLICY.format(1),
            "powersave",
            "performance on 1, powersave on 1",
            "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor; ",
        ),
    ],
)
def test_a_bad_value_is_a_warning_with_its_cure(
    machine: Machine, check: str, file: str, text: str, found: str, remedy: str
) -> None:
    before = machine.findings()
    machine.write(file, text + "\n")
    after = machine.findings()
    assert (after[check].status, after[check].found) == ("warn", found)
    assert remedy in after[check].remedy
    assert {name: f for name, f in after.items() if name != check} == {
        name: f for name, f in before.items() if name != check
    }


@pytest.mark.parametrize(
    ("check", "file", "text"),
    [
        ("eth1 MTU", "sys/class/net/eth1/mtu", "9216"),
        ("eth1 speed", "sys/class/net/eth1/speed", "10000"),
        ("eth1 rp_filter", "proc/sys/net/ipv4/conf/eth1/rp_filter", "0"),
        (
            "eth1 rp_filter",
            "proc/sys/net/ipv4/conf/all/rp_filter",
            "1",
        ),  # eth1 has 2, and the kernel takes the most
        ("net.core.rmem_max", "proc/sys/net/core/rmem_max", "67108864"),
        ("USB 2-1 speed", f"{CAMERA}/speed", "10000"),
        ("usbcore.usbfs_memory_mb", "sys/module/usbcore/parameters/usbfs_memory_mb", "0"),
        ("usbcore.usbfs_memory_mb", "sys/module/usbcore/parameters/usbfs_memory_mb", "2048"),
    ],
)
def test_more_than_needed_is_well_too(machine: Machine, check: str, file: str, text: str) -> None:
    machine.write(file, text + "\n")
    assert machine.findings()[check].status == "ok"


def test_a_strict_rp_filter_for_all_holds_for_each(machine: Machine) -> None:
    machine.write("proc/sys/net/ipv4/conf/all/rp_filter", "1\n")
    machine.write("proc/sys/net/ipv4/conf/eth1/rp_filter", "0\n")
    assert machine.findings()["eth1 rp_filter"].status == "warn"


def test_an_mtu_says_for_which_interface_it_matters(machine: Machine) -> None:
    assert machine.findings()["eth1 MTU"].wanted == "9000 bytes or more; matters only where a GigE camera hangs"


@pytest.mark.parametrize("speed", ["-1", "", "Unknown!"])
def test_an_unknown_link_speed_is_no_finding(machine: Machine, speed: str) -> None:
    machine.write("sys/class/net/eth1/speed", speed + "\n")
    findings = machine.findings()
    assert "eth1 speed" not in findings
    assert findings["eth1 MTU"].status == "ok"


@pytest.mark.parametrize(("file", "text"), [("flags", "0x1002"), ("type", "65534"), ("type", "772")])
def test_only_ethernet_that_is_up_counts(machine: Machine, file: str, text: str) -> None:
    machine.write(f"sys/class/net/eth1/{file}", text + "\n")
    findings = machine.findings()
    assert not [check for check in findings if "eth1" in check]
    assert findings["Ethernet"].status == "skipped"
    assert "ip link" in findings["Ethernet"].remedy


def test_an_interface_of_unknown_state_is_checked(machine: Machine) -> None:
    (machine.root / "sys/class/net/eth1/flags").unlink()
    assert machine.findings()["eth1 MTU"].status == "ok"


def test_each_interface_is_checked_and_odd_names_are_quoted(machine: Machine) -> None:
    for name in ("eth1.100", "$(id)"):
        machine.interface(name, mtu="1500", speed="100")
        machine.write(f"proc/sys/net/ipv4/conf/{name}/rp_filter", "1\n")
    findings = machine.findings()
    assert findings["eth1 MTU"].status == "ok"
    assert "sysctl -w net/ipv4/conf/eth1.100/rp_filter=2;" in findings["eth1.100 rp_filter"].remedy
    assert "dev '$(id)' mtu" in findings["$(id) MTU"].remedy
    assert "-s '$(id)' autoneg" in findings["$(id) speed"].remedy
    assert "-w 'net/ipv4/conf/$(id)/rp_filter=2'" in findings["$(id) rp_filter"].remedy


def test_a_usb3_camera_is_found_once_and_other_devices_not_at_all(machine: Machine) -> None:
    usb = [check for check in machine.findings() if check.startswith("USB")]
    assert usb == ["USB 2-1 speed", "USB 2-1 permission", "USB 2-1 autosuspend"]


def test_a_usb3_camera_that_may_not_be_used_fails(shared_machine: Machine) -> None:
    node = shared_machine.root / NODE
    for mode in (0o444, 0o222, 0o000):
        node.chmod(mode)
        with unprivileged():
            finding = shared_machine.findings()["USB 2-1 permission"]
        assert (finding.status, finding.found) == ("fail", str(node))
    node.chmod(0o666)
    with unprivileged():
        assert shared_machine.findings()["USB 2-1 permission"].status == "ok"
    rule = shlex.split(finding.remedy)[finding.remedy.split().index("echo") + 1]
    assert rule.count('"') == 10
    assert 'ENV{ID_USB_INTERFACES}=="*:ef0500:*", MODE="0660", GROUP="inspectd"' in rule
    assert "sudo tee /etc/udev/rules.d/70-u3v.rules; sudo udevadm control --reload" in finding.remedy


def test_a_usb3_camera_without_a_node_fails(machine: Machine) -> None:
    (machine.root / NODE).unlink()
    finding = machine.findings()["USB 2-1 permission"]
    assert (finding.status, finding.found) == ("fail", f"{machine.root / NODE} does not exist")
    assert "/dev/bus/usb:/dev/bus/usb" in finding.remedy


def test_no_usb3_camera_is_no_fault(machine: Machine) -> None:
    for name in ("2-1:1.0", "2-1:1.2"):
        (machine.root / "sys/bus/usb/devices" / name).unlink()
    findings = machine.findings()
    assert findings["USB3 camera"].status == "skipped"
    assert not [check for check in findings if check.startswith("USB 2-1")]


def test_a_kernel_without_usb_and_frequencies(machine: Machine) -> None:
    for name in ("sys/bus/usb", "sys/module/usbcore", "sys/devices/system/cpu"):
        shutil.rmtree(machine.root / name)
    findings = machine.findings()
    for check in ("USB3 camera", "usbcore.usbfs_memory_mb", "CPU governor", "CPU idle states"):
        assert findings[check].status == "skipped"
    assert "No such file or directory" in findings["usbcore.usbfs_memory_mb"].found


def test_the_limits_of_this_process_are_told(machine: Machine) -> None:
    findings = machine.findings()
    soft, hard = (str(n).replace("-1", "unlimited") for n in resource.getrlimit(resource.RLIMIT_MEMLOCK))
    assert findings["RLIMIT_MEMLOCK"].found == f"soft {soft}, hard {hard}"
    assert "LimitRTPRIO=80" in findings["RLIMIT_RTPRIO"].wanted


class Producers:
    """Folders for GENICAM_GENTL64_PATH, as they are named there; below the machine's root they are real."""

    def __init__(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.machine, self.monkeypatch = machine, monkeypatch
        machine.write("opt/good/lib/camera.cti", "\x7fELF")
        machine.write("opt/empty/readme.txt", "")

    def statuses(self, *folders: str) -> dict[str, tuple[str, str]]:
        self.monkeypatch.setenv("GENICAM_GENTL64_PATH", ":".join(folders))
        name = "GENICAM_GENTL64_PATH "
        findings = self.machine.findings().items()
        return {check.removeprefix(name): (f.status, f.found) for check, f in findings if check.startswith(name)}


@pytest.fixture
def producers(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Producers:
    return Producers(machine, monkeypatch)


def test_producers_that_can_be_used(producers: Producers) -> None:
    assert producers.statuses("/opt/good/lib") == {"/opt/good/lib": ("ok", "readable")}
    assert producers.statuses("", "/opt/good/lib", "", "/opt/good/lib/") == {
        "/opt/good/lib": ("ok", "readable"),
        "/opt/good/lib/": ("ok", "readable"),
    }


def test_a_folder_without_a_producer_fails_if_it_is_the_only_one(producers: Producers) -> None:
    wrong = {
        "/opt/empty": "no .cti file",
        "/opt/gone": "No such file or directory",
        "/opt/good/lib/camera.cti": "Not a directory",
        "opt/relative-to-nowhere": "No such file or directory",
        "/opt/" + "long" * 100: "File name too long",
    }
    assert producers.statuses(*wrong) == {folder: ("fail", problem) for folder, problem in wrong.items()}
    assert producers.statuses(*wrong, "/opt/good/lib") == {
        **{folder: ("warn", problem) for folder, problem in wrong.items()},
        "/opt/good/lib": ("ok", "readable"),
    }


def test_a_producer_that_may_not_be_read_fails(shared_machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    producers = Producers(shared_machine, monkeypatch)
    folder = shared_machine.root / "opt/good/lib"
    (folder / "camera.cti").chmod(0)
    with unprivileged():
        assert producers.statuses("/opt/good/lib") == {"/opt/good/lib": ("fail", "may not read camera.cti")}
        remedy = shared_machine.findings()["GENICAM_GENTL64_PATH /opt/good/lib"].remedy
    assert "sudo chmod -R a+rX /opt/good/lib," in remedy
    folder.chmod(0)
    with unprivileged():
        assert producers.statuses("/opt/good/lib") == {"/opt/good/lib": ("fail", "Permission denied")}
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)  # the remedy
    with unprivileged():
        assert producers.statuses("/opt/good/lib") == {"/opt/good/lib": ("ok", "readable")}


def test_a_relative_producer_folder_counts_from_where_one_is(
    producers: Producers, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    gone = tmp_path_factory.mktemp("gone")
    monkeypatch.chdir(gone)
    producers.machine.write(f"{gone}/vendor/camera.cti".lstrip("/"), "")
    assert producers.statuses("vendor") == {"vendor": ("ok", "readable")}
    gone.rmdir()
    assert producers.statuses("vendor") == {"vendor": ("fail", "No such file or directory")}


GARBAGE = {
    "empty": b"",
    "text": b"quarter past\n",
    "binary": b"\xff\xfe\x00\x80\n",
    "zeros": b"\0\0\0\n",
    "endless": b"9" * 5000,
    "negative": b"-7\n",
}


@pytest.mark.parametrize("file", KERNEL)
def test_garbage_or_nothing_in_a_file_raises_nothing(machine: Machine, file: str) -> None:
    path = machine.root / file
    for content in GARBAGE.values():
        path.write_bytes(content)
        machine.findings()
    path.unlink()
    machine.findings()
    path.mkdir()
    machine.findings()
    path.rmdir()
    path.symlink_to(path)
    machine.findings()


@pytest.mark.parametrize(
    ("check", "file"),
    [
        ("eth1 MTU", "sys/class/net/eth1/mtu"),
        ("eth1 rp_filter", "proc/sys/net/ipv4/conf/eth1/rp_filter"),
        ("eth1 rp_filter", "proc/sys/net/ipv4/conf/all/rp_filter"),
        ("net.core.rmem_max", "proc/sys/net/core/rmem_max"),
        ("net.core.rmem_default", "proc/sys/net/core/rmem_default"),
        ("net.core.netdev_max_backlog", "proc/sys/net/core/netdev_max_backlog"),
        ("usbcore.usbfs_memory_mb", "sys/module/usbcore/parameters/usbfs_memory_mb"),
        ("USB 2-1 speed", "sys/bus/usb/devices/2-1/speed"),
    ],
)
def test_what_cannot_be_read_is_skipped_with_the_reason(shared_machine: Machine, check: str, file: str) -> None:
    path = shared_machine.root / file

    def found() -> str:
        finding = shared_machine.findings()[check]
        assert finding.status == "skipped"
        assert str(path) in finding.found and str(path) in finding.remedy
        return finding.found

    path.chmod(0)
    with unprivileged():
        assert found().endswith(": Permission denied")
    path.chmod(0o600)
    path.write_bytes(GARBAGE["binary"])
    assert found().endswith(": no number")
    path.write_bytes(GARBAGE["text"])
    assert found().endswith(": no number")
    path.unlink()
    assert found().endswith(": No such file or directory")
    path.mkdir()
    assert found().endswith(": Is a directory")


@pytest.mark.parametrize("number", ["busnum", "devnum"])
def test_a_usb3_camera_without_a_number_is_skipped(machine: Machine, number: str) -> None:
    (machine.root / CAMERA / number).unlink()
    assert machine.findings()["USB 2-1 permission"].status == "skipped"


def test_closed_folders_raise_nothing(shared_machine: Machine) -> None:
    for name in (
        "sys/class",
        "sys/bus/usb/devices",
        "proc/sys",
        "sys/devices/system",
        "sys/module",
        "dev/bus",
        CAMERA,
    ):
        folder = shared_machine.root / name
        folder.chmod(0)
        with unprivileged():
            shared_machine.findings()
        folder.chmod(0o755)
    for folder in (shared_machine.root / "sys", shared_machine.root):
        folder.chmod(0)
        with unprivileged():
            findings = shared_machine.findings()
        folder.chmod(0o755)
        assert findings["Ethernet"].status == findings["USB3 camera"].status == "skipped"


def test_an_empty_root_has_nothing_to_check(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "gone"):
        findings = camera_findings(root)
        assert_well_formed(findings)
        assert {f.status for f in findings if not f.check.startswith("RLIMIT")} == {"skipped"}


def test_this_machine() -> None:
    for finding in (findings := camera_findings(told=ask_here())):
        assert finding.status == "ok" or finding.remedy
    assert_well_formed(findings)
    with unprivileged():
        assert_well_formed(camera_findings(told=ask_here()))
    assert {"net.core.rmem_max", "usbcore.usbfs_memory_mb", "CPU governor"} <= {f.check for f in findings}


def test_cameras_of_a_config_are_opened(line: Line) -> None:
    """The real harvesters on the real producer that the genicam wheel carries."""
    size = 'width = 400\nheight = 400\npixel_format = "Mono8"\nacquisition_frame_rate_hz = 20.0\n'
    names = {"ball": "0", "gone": "99"}
    producer = Path(genicam.__file__).parent / "viky.cti"
    kind = f'kind = "genicam"\ncti = "{producer}"\n'
    sections = [
        f'[[camera]]\nname = "{name}"\n{kind}serial = "{serial}"\n{size}' for name, serial in names.items()
    ]
    write_bundle(line.folder / "mono", channels=1)
    line.config.write_text('line = "test"\nrecipes = ["mono/recipe.toml"]\n' + "".join(sections))
    done = inspectd("doctor", "camera", "--json", "-c", line.config, timeout_s=250)
    assert done.returncode in (0, 1), done.stderr
    rows = [msgspec.json.decode(row, type=Finding) for row in done.stdout.splitlines()]
    findings = {finding.check: finding for finding in rows}
    ball = findings["camera ball"]
    assert (ball.status, ball.found) == ("ok", "opened, 10.2 MB a picture, 20 a second")
    assert findings["camera ball link"].status == "skipped"
    assert findings["camera gone"].status == "warn" and "99" in findings["camera gone"].found
