"""docker or podman, whichever answers: how the tests build and run the container image."""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
# A strict platform: nothing to write on but /tmp, no rights, a user that no passwd entry knows.
LOCKED_DOWN = (
    "--read-only",
    "--user=123456:0",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--security-opt=label=disable",  # SELinux would keep the container from folders of the test
)
UNREACHABLE = re.compile(r"Retrying \(Retry\(|Could not resolve host|Temporary failure in name resolution")


def find_engine():
    """Return the first of docker and podman that answers, as `make image` does, or None."""
    for engine in ("docker", "podman"):
        try:
            if call(engine, "info").returncode == 0:
                return engine
        except FileNotFoundError:
            continue
    return None


def why_unusable(engine):
    """Return why the base image cannot be had or run on this machine, or an empty string."""
    default = re.search(r"^ARG BASE_IMAGE=(\S+)$", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)[1]
    base = os.environ.get("BASE_IMAGE") or default
    if call(engine, "image", "inspect", base).returncode and call(engine, "pull", base).returncode:
        return f"{engine} has no base image {base} and cannot pull it"
    probe = call(engine, "run", "--rm", "--network=none", base, "python3", "--version")
    if probe.returncode:
        reason = probe.stderr.strip() or f"exit status {probe.returncode}"
        return f"{engine} cannot run the base image: {reason.splitlines()[-1]}"
    return ""


def head(folder=CHECKOUT):
    """Return the commit of a checkout, `unknown` outside git."""
    return call("git", "-C", str(folder), "rev-parse", "HEAD").stdout.strip() or "unknown"


def make_image(reference, folder=CHECKOUT):
    """Build the image of a checkout with `make image`; options come from the environment, as for people."""
    return call("make", "--directory", str(folder), "image", f"IMAGE={reference}")


@dataclass(frozen=True)
class Image:
    """A built image, the engine that has it, and the commit that it was built from."""

    engine: str
    reference: str
    commit: str = "unknown"

    def command(self, *arguments, options=(), entrypoint=None, network="none"):
        """Return the command that runs the image, locked down; `options` go to the engine."""
        if entrypoint:
            options = (*options, f"--entrypoint={entrypoint}")
        started = (self.engine, "run", "--rm", f"--network={network}", *LOCKED_DOWN, *options)
        return *started, self.reference, *arguments

    def run(self, *arguments, **how):
        """Run the image as `command` describes, to its end."""
        return call(*self.command(*arguments, **how))

    def output(self, *arguments, **how):
        """Run the image as `command` describes and return what it prints; it must end well."""
        done = self.run(*arguments, **how)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def inspect(self):
        """Return what the engine knows of the image."""
        found = call(self.engine, "image", "inspect", self.reference)
        return json.loads(found.stdout)[0]


def call(*command):
    """Run a command and return it done, its output captured as text."""
    return subprocess.run(command, capture_output=True, text=True, check=False)
