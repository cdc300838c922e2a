"""`ddm fetch` and `ddm prepare` as a user runs them, with the project's params.yaml."""

import json
from pathlib import Path

import yaml

from ddm_core.cli import main

PARAMS = Path(__file__).parents[2] / "params.yaml"


def write_params(project, *, fetch, **prepare):
    """Write params.yaml with this section `fetch` and changes of `prepare`; photos get 32 x 32 pixels."""
    params = yaml.safe_load(PARAMS.read_text())
    params["fetch"] = fetch
    params["prepare"] |= {"image_size": 32} | prepare
    (project / "params.yaml").write_text(yaml.safe_dump(params, allow_unicode=True))


def run(*arguments):
    """Run a `ddm` command that must end well."""
    assert main(arguments) == 0


def fetch_and_prepare():
    """Run both stages; return the manifest as JSON."""
    run("fetch")
    run("prepare", "--workers", "1")
    return json.loads(Path("data/prepared/manifest.json").read_text(encoding="utf-8"))


def assert_all_accounted_for(manifest):
    """Nothing that was found is lost, neither on the way into the raw folder nor behind it."""
    counts, fetched = manifest["counts"], manifest["fetched"]
    assert counts["found"] == counts["read"] + counts["quarantined"]
    assert counts["quarantined"] == len(manifest["quarantined"])
    reasons = ("taken", "rejected", "excluded", "missing", "dropped")
    assert fetched["found"] == sum(fetched[reason] for reason in reasons)
    assert counts["found"] == fetched["taken"] + fetched["rejected"]
