"""The journal on the disk: its files, the thread that writes results into it, and reading it meanwhile."""
