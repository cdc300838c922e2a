"""What runs on this machine."""

import subprocess


def ps(*options: str) -> str:
    """What `ps` prints; nothing where there is no such process."""
    # Without -ww its lines end at the width of the terminal, or at COLUMNS, and a search finds nothing.
    return subprocess.run(["ps", "-ww", *options], capture_output=True, text=True, check=False).stdout
