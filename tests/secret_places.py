"""Where a secret could be seen by others: what the system shows of processes, and files."""

import base64
from pathlib import Path


def forms(secret):
    """A secret as it could appear: as it is, as hexadecimal, as base64 at any place in longer base64."""
    encoded = [
        base64.b64encode(bytes(shift) + secret)[4 if shift else 0 :].rstrip(b"=")[:-1] for shift in range(3)
    ]
    return [secret, secret.hex().encode(), *encoded]


def found(secrets, places):
    """The secrets of which a form is in one of the places."""
    return [secret for secret in secrets if any(form in shown for form in forms(secret) for shown in places)]


def shown_by_system(process, *, environment=True):
    """What `ps` shows of a process and all its children: command lines, and environments unless told not."""
    shown, pending = b"", [process]
    while pending:
        current = Path(f"/proc/{pending.pop()}")
        try:
            shown += (current / "cmdline").read_bytes()
            shown += (current / "environ").read_bytes() if environment else b""
            children = (current / f"task/{current.name}/children").read_text().split()
            pending += [int(child) for child in children]
        except OSError:  # it has ended
            continue
    return shown


def every_file(folder):
    """The content of everything in a folder."""
    content = b""
    for path in folder.rglob("*"):
        try:
            content += path.read_bytes() if path.is_file() else b""
        except OSError:  # gone meanwhile
            continue
    return content
