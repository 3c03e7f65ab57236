"""The `[engine]` section of `config.toml`: a struct for each engine."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class OpenVinoEngine(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="openvino"):
    """The CPU engine."""

    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    """0 = all cores but one."""
    precision: Literal["auto", "float"] = "auto"
    """auto: INT8 where the bundle allows it, else the fastest float; float: never INT8."""


class TensorRtEngine(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tensorrt"):
    """The GPU engine: TensorRT or TensorRT-RTX, whichever is installed."""

    device: Annotated[int, Meta(ge=0, le=63)] = 0
    """The GPU, as `nvidia-smi -L` counts."""
    precision: Literal["auto", "float"] = "float"
    """float: fp16; auto: INT8 where the bundle allows it."""
    plans: str = "./plans"
    """Folder of the plans that were built for this machine."""
    build_timeout_s: Annotated[float, Meta(ge=1, le=86400)] = 1800.0
    """Building and proving one plan may take so long."""


EngineConfig = OpenVinoEngine | TensorRtEngine
