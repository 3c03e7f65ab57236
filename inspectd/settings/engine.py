"""The `[engine]` section of `config.toml`: a struct for each engine."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class OpenVinoEngine(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="openvino"):
    """The CPU engine, OpenVINO."""

    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Number of threads; 0 = one per core but one."""
    precision: Literal["auto", "float"] = "auto"
    """Precision; auto: INT8 where the bundle allows it, else the fastest float; float: never INT8."""


class TensorRtEngine(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tensorrt"):
    """The GPU engine: TensorRT or TensorRT-RTX, whichever is installed."""

    device: Annotated[int, Meta(ge=0, le=63)] = 0
    """Number of the GPU, as `nvidia-smi -L` counts."""
    precision: Literal["auto", "float"] = "float"
    """Precision; float: fp16; auto: INT8 where the bundle allows it."""
    plans: str = "./plans"
    """Folder of the plans that were built for this machine."""
    build_timeout_s: Annotated[float, Meta(ge=1, le=86400)] = 1800.0
    """Longest time to build and prove one plan, in seconds."""


EngineConfig = OpenVinoEngine | TensorRtEngine
