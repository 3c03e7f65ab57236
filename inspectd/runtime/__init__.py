"""What all rooms use and what uses none of them: ring, results, hand-offs, books, clocks, errors, log, systemd."""
