"""Tests that need a GPU, run by `make test-gpu`. On the stand-in driver they are rehearsed, with small numbers."""

import os

REHEARSED = "INSPECTD_REHEARSAL" in os.environ
