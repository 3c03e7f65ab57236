"""The entry, `inspectd` and `python -m inspectd`."""

import signal

# Until `cli` and its imports stand, Ctrl-C ends this process as it would any program: no traceback of an import.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from inspectd.cli.main import main  # noqa: E402

signal.signal(signal.SIGINT, signal.default_int_handler)

if __name__ == "__main__":
    main()
