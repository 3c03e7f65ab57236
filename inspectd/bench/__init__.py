"""Measurements on this machine, each in one run: throughput, acquisition, and every fault of a camera."""
