"""Recognises that memory ran out, whichever library says so."""

from __future__ import annotations


def out_of_memory(error: Exception) -> bool:
    """Whether an error is Python's MemoryError, or how PyTorch, oneDNN and OpenVINO say that a host or GPU is full."""
    said = ("allocate memory", "out of memory", "bad_alloc")
    return isinstance(error, MemoryError) or any(words in str(error) for words in said)
