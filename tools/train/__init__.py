"""Training: which crops a network learns from, the loop, the checks on dev, and what a run leaves on the disk."""
