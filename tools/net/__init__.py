"""The network, what it shall say of each cell, and what it costs it to say something else."""
