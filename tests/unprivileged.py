"""Runs a test's doing as a user whom permissions bind: root reads whatever they say."""

import json
import os
import tempfile
import traceback
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


def as_nobody(action):
    """Return what `action()` returns (as JSON) in a child process, which root runs as `nobody`."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        answer = {"raised": "the child died"}
        try:
            os.close(readable)
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
            answer = {"returned": action()}
        except BaseException:
            answer = {"raised": traceback.format_exc()}
        finally:
            with os.fdopen(writable, "w") as pipe:
                json.dump(answer, pipe)
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as pipe:
        answer = json.load(pipe)
    os.waitpid(child, 0)
    assert "raised" not in answer, answer["raised"]
    return answer["returned"]


@contextmanager
def open_folder():
    """Yield a temporary folder that everybody may enter, which pytest's are not; whatever is in it goes."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
