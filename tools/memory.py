"""Recognises that memory ran out, whichever library says so."""

from __future__ import annotations


def out_of_memory(error: Exception) -> bool:
    """Whether an error of Python, PyTorch, oneDNN or OpenVINO says that a host's or GPU's memory is full."""
    said = ("allocate memory", "out of memory", "bad_alloc")
    return isinstance(error, MemoryError) or any(words in str(error) for words in said)
