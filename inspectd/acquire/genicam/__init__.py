"""Cameras that speak GenICam, behind a GenTL producer: device, features, buffers, clock."""
