"""A sweep from end to end: trials until there are enough, then the best settings; a stopped one goes on."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddm_core.data.manifest import read_summary
from ddm_core.data.workers import outcomes
from ddm_core.errors import DdmError
from ddm_core.files import alone, read_json, remove_leftovers_below, sha256_bytes, write_bytes
from ddm_core.stages.recognise import DESCRIPTION
from ddm_core.sweep import record
from ddm_core.sweep.order import Order, decisive_facts, laboratory, require_possible
from ddm_core.sweep.space import InvalidSettingsError, with_settings
from ddm_core.sweep.study import (
    REASON,
    STATE,
    ask,
    best,
    broken_off,
    figures_of,
    finished,
    known,
    open_study,
    rivals,
    tell,
)
from ddm_core.sweep.task import Ended, Task, carry_out
from ddm_core.sweep.tracked import tracked
from ddm_core.termination import EXIT_STATUS, sigterm_raises
from ddm_core.tracking import DatasetReference

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

STUDY, TRIALS, LOCK = "study.db", "trials", "sweep.lock"
TABLE, PICTURE, BEST = "trials.csv", "trials.png", "best.yaml"
HOPELESS = 3  # so many broken trainings and nothing else: that is hardly the settings' fault


@dataclass(frozen=True)
class Outcome:
    """The `table` of all trials as text; the `best` private trial's number and its `fragment` of params.yaml.

    The last two are None where no trial stays within the gate's limits for attackers.
    """

    table: str
    best: int | None
    fragment: str | None


def run(order: Order) -> Outcome:
    """Run the trials that are missing; write trials.csv, trials.png and best.yaml anew after each.

    Only complete trials leave a folder, `trials/NUMBER`.

    Raises:
        DdmError: missing data, limits that nobody could meet with so few encryptions, a sweep of that name
            with other settings, another process at work on it, trainings that all break, or MLflow or the
            database cannot be reached.
        SystemExit: SIGTERM came; the running trials are lost, and run again next time.
    """
    summary = read_summary(order.prepared)
    read_json(order.recogniser / DESCRIPTION)  # missing? better now than after the first training
    require_possible(order, summary)
    facts = decisive_facts(order, summary)
    dataset = DatasetReference("prepared photos", summary.dataset_digest, order.prepared)
    refusal = f"{order.results}: another process works on this sweep; wait for it or give another --name"
    with sigterm_raises(lambda: SystemExit(EXIT_STATUS)), alone(order.results / LOCK, refusal):
        study = _opened(order, sha256_bytes(json.dumps(facts, sort_keys=True).encode()))
        with tracked(
            study,
            name=order.name,
            params=facts,
            command=order.command,
            dataset=dataset if order.mlflow else None,
        ) as run_of_sweep:
            while (missing := order.trials - len(finished(study))) > 0:
                for trial in _round(study, order, min(missing, order.jobs)):
                    run_of_sweep.note()
                    _write(study, order)
                    _say(trial)
                    _require_hope(study)
            run_of_sweep.sum_up(best(study), _write(study, order))
        return _outcome(study, order)


def _opened(order: Order, identity: str) -> Study:
    """Open the study and remove what a killed sweep left of trials that had not ended."""
    storage = order.storage or f"sqlite:///{order.results.absolute() / STUDY}"
    study = open_study(storage, order.name, identity)
    remove_leftovers_below(order.results)
    for trial in broken_off(study):
        shutil.rmtree(_folder(order, trial.number), ignore_errors=True)
    return study


def _round(study: Study, order: Order, jobs: int) -> Iterator[FrozenTrial]:
    """Run so many trials side by side; yield each as it ends. All are drawn before any has ended."""
    shared = laboratory(order)
    asked: list[Trial] = []
    tasks: list[Task] = []
    for _ in range(jobs):
        trial = ask(study, order.space, order.base)
        try:
            settings = with_settings(order.base, trial.params)
            at_once = known(study, trial)
        except InvalidSettingsError as error:
            at_once = Ended("broken", {}, reason=str(error))
        if at_once:
            yield tell(study, trial, at_once)
            continue
        asked.append(trial)
        folder = _folder(order, trial.number)
        tasks.append(Task(shared, settings, folder, order.space.pruning, rivals(study)))
    for place, ended in outcomes(carry_out, tasks, order.jobs):
        yield tell(study, asked[place], ended)


def _folder(order: Order, number: int) -> Path:
    return order.results / TRIALS / f"{number:04}"


def _require_hope(study: Study) -> None:
    ended = finished(study)
    if len(ended) == HOPELESS and all(trial.user_attrs[STATE] == "broken" for trial in ended):
        reason = ended[-1].user_attrs[REASON]
        raise DdmError(f"sweep: the first {HOPELESS} trainings all broke; the last: {reason}")


def _write(study: Study, order: Order) -> dict[str, bytes]:
    rows = record.rows_of(finished(study), order.channels)
    files = {TABLE: record.csv_text(rows).encode(), PICTURE: record.picture(rows, order.name)}
    if fragment := _fragment(study, order):
        files[BEST] = fragment.encode()
    for name, content in files.items():
        write_bytes(order.results / name, content)
    return files


def _outcome(study: Study, order: Order) -> Outcome:
    winner = best(study)
    table = record.table(record.rows_of(finished(study), order.channels))
    return Outcome(table, winner.number if winner else None, _fragment(study, order))


def _fragment(study: Study, order: Order) -> str | None:
    winner = best(study)
    found = figures_of(winner) if winner else None
    if winner is None or found is None:
        return None
    heading = record.heading(found, winner.number, len(finished(study)))
    return record.fragment(order.obfuscator, with_settings(order.base, winner.params), heading)


def _say(trial: FrozenTrial) -> None:
    found = figures_of(trial)
    words = trial.user_attrs.get(REASON, "")
    if found is not None:
        privacy = "private" if found.private else f"{found.worst_attacker} is above its limit"
        words = f"mean PSNR {found.psnr_db:.2f} dB, {privacy}"
    print(f"\ntrial {trial.number} {trial.user_attrs[STATE]}: {words}", file=sys.stderr)
