"""Finding GenTL producers."""

import os
from pathlib import Path

from inspectd.runtime.errors import CameraError


def producers(cti: str, base: Path) -> list[Path]:
    """Files of the producers to use: the given one, else all in GENICAM_GENTL64_PATH. Raises CameraError."""
    if cti:
        path = base / cti
        if not path.is_file():
            raise CameraError(f"the GenTL producer {path} does not exist; check `cti`")
        return [path]
    folders = [Path(p) for p in os.environ.get("GENICAM_GENTL64_PATH", "").split(os.pathsep) if p]
    try:
        found = sorted(path for folder in folders if folder.is_dir() for path in folder.glob("*.cti"))
    except OSError as error:
        raise CameraError(f"GENICAM_GENTL64_PATH: {error.filename}: {error.strerror}") from None
    if not found:
        raise CameraError("no GenTL producer: set `cti` to the vendor's .cti file, or GENICAM_GENTL64_PATH")
    return found
