"""What `inspectd doctor` finds out about this machine: settings that break cameras, and what its GPU does."""
