"""A small copy of this project in another folder: the real dvc.yaml and params.yaml, made quick."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).parents[2]
OBFUSCATORS = ("ddm", "keyed_ddm")
ATTACKERS = ("clean", "retrained", "inversion", "wrong_key")
CONTROLS = ("nonce_reuse",)


def make_project(folder, photos):
    """Make `folder` a git and DVC project that runs the whole pipeline on `photos` within a minute."""
    folder.mkdir()
    for name in (".dvcignore", ".gitignore"):
        shutil.copy(CHECKOUT / name, folder / name)
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(CHECKOUT / ".dvc" / name, folder / ".dvc" / name)
    # DVC hashes the code that dvc.yaml names; what runs is the installed package.
    shutil.copytree(CHECKOUT / "ddm_core", folder / "ddm_core", ignore=shutil.ignore_patterns("__pycache__"))
    write_yaml(folder / "params.yaml", small_params(photos))
    write_yaml(folder / "dvc.yaml", small_graph())
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "All")
    return folder


def git(folder, *arguments):
    """Run git in `folder` and return what it prints."""
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def small_params(photos):
    """The project's own settings with the least work that still goes through every line.

    One thread: two threads that wait for each other on a busy machine take a hundred times longer.
    """
    params = read_yaml(CHECKOUT / "params.yaml")
    quick = {"steps": 4, "batch_size": 8, "width": 8, "warmup_steps": 1, "threads": 1}
    params["fetch"] = {"source": "folder", "uri": str(photos)}
    params["prepare"]["image_size"] = 32
    params["train"] = {name: params["train"][name] | quick for name in OBFUSCATORS}
    params["train"]["keyed_ddm"]["blocks"] = 1
    params["recognise"] |= {"epochs": 1, "batch_size": 8, "threads": 1}
    params["attack"] |= {"epochs": 1, "batch_size": 8, "inversion_steps": 2, "threads": 1}
    params["attack"]["encryptions_per_photo"] = 1
    params["utility"] |= {"encryptions_per_photo": 1, "threads": 1}
    return params


def small_graph():
    """The project's own stages; the attack table has fewer rows."""
    graph = read_yaml(CHECKOUT / "dvc.yaml")
    graph["stages"]["attack"]["matrix"] = {
        "obfuscator": list(OBFUSCATORS),
        "attacker": [*ATTACKERS, *CONTROLS],
    }
    return graph


def read_yaml(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def write_yaml(path, content):
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def change_training(folder, **settings):
    """Change settings of the obfuscator `ddm` in a project's params.yaml."""
    params = read_yaml(folder / "params.yaml")
    params["train"]["ddm"] |= settings
    write_yaml(folder / "params.yaml", params)


def run(folder, *command, stdin=None):
    """Run a command in `folder` as a user would, to its end."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def start(folder, *command):
    """Start a command in `folder`, in a process group of its own, and return at once."""
    # Tests run in the background may have Ctrl-C switched off, and a new process would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment(folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def environment(folder):
    """Commands of the Python that runs the tests, a home of its own, no settings of MLflow or DVC."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": commands, "HOME": str(home), "OMP_NUM_THREADS": "1"}
