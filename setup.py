"""Builds simcam, the simulated GenICam camera; all else stands in pyproject.toml."""

from pathlib import Path

from setuptools import Extension, setup

FOLDER = "inspectd/acquire/simcam"
setup(
    ext_modules=[
        Extension(
            "inspectd.acquire.simcam._producer",
            [
                f"{FOLDER}/{name}.c"
                for name in ("device", "faults", "handles", "nodes", "ports", "producer", "stream")
            ],
            depends=[
                str(path) for kind in ("h", "xml") for path in sorted(Path(FOLDER).glob(f"*.{kind}"))
            ],  # the descriptions become part of it
            extra_compile_args=[
                "-std=c11",
                "-O2",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-Wconversion",
                "-fvisibility=hidden",
                f"-Wa,-I{FOLDER}",
            ],
            extra_link_args=["-pthread"],
            optional=True,  # without a C compiler there is no simulated camera, and all else works
        )
    ]
)
