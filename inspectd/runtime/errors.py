"""What can go wrong by someone's hand, and the exit code each ends with.

    UserError              one clear sentence, never a traceback   exit 1
      ConfigError          editing or replacing a file cures it    exit 78 (EX_CONFIG: systemd does not restart)
        BundleError        ... the file being part of a model bundle
      UnavailableError     not there now: port, lock, camera       exit 69 (EX_UNAVAILABLE: systemd tries again)
        CameraError        ... a camera; in the daemon a state that is retried, not an end
      DeviceError          the GPU failed and stays failed         exit 70 (EX_SOFTWARE: systemd restarts)

A wrong command line exits with 2, a clean stop with 0.
"""

from collections.abc import Sequence

ON_THE_CPU = 'inspect on the CPU, with kind = "openvino" under [engine]'
"""Remedy that always helps where the GPU engine can't be used."""


class UserError(Exception):
    """A mistake or circumstance the user can cure; `str()` is the sentence to show."""

    exit_code = 1


def missing_package(error: ModuleNotFoundError, extra: str) -> str:
    """The sentence for a package that an installation without this extra lacks; ours missing is a fault."""
    if (error.name or "").split(".")[0] in ("inspectd", "inspectd_train"):
        raise error
    return (
        f"this command needs the package {error.name}: install inspectd[{extra}] (`make venv` installs everything)"
    )


class ConfigError(UserError):
    """A mistake that editing a file cures. `problems` holds one sentence per mistake, in file order."""

    exit_code = 78

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class BundleError(ConfigError):
    """A model bundle is missing, damaged, foreign, or fails its golden test."""


class UnavailableError(UserError):
    """Something outside the program is not there now; trying again later may work."""

    exit_code = 69


class CameraError(UnavailableError):
    """The camera can't be opened, or was lost while open."""


class DeviceError(UserError):
    """The GPU failed: what this process has on it is lost, only a new process can go on."""

    exit_code = 70


class StoppedError(UserError):
    """The program was asked to end before the work began."""

    exit_code = 0
