"""The files that an engineer writes: config and recipe as structs, and TOML read with positions of mistakes."""
