"""The sweep in MLflow: one run for the whole, and below it one a trial that has ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddm_core.sweep.record import metrics_of
from ddm_core.sweep.study import REASON, STATE, figures_of, finished

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from ddm_core.tracking import DatasetReference, TrackedRun

EXPERIMENT = "ddm-sweep"
RUN, NOTED = "ddm.mlflow_run", "ddm.mlflow_noted"


@dataclass(frozen=True)
class Tracked:
    """An open run, or with `run` None nothing at all."""

    study: Study
    run: TrackedRun | None = None

    def note(self) -> None:
        """Add a run for every trial that has ended and has none yet."""
        if self.run is None:
            return
        noted = list(self.study.user_attrs.get(NOTED, []))
        for trial in finished(self.study):
            if trial.number not in noted:
                self._add(self.run, trial)
                noted.append(trial.number)
                self.study.set_user_attr(NOTED, noted)

    def sum_up(self, best: FrozenTrial | None, files: Mapping[str, bytes]) -> None:
        """Note the best trial's figures, and the files of the sweep."""
        if self.run is None:
            return
        found = figures_of(best) if best else None
        if best and found:
            self.run.log_metrics({f"best.{name}": value for name, value in metrics_of(found).items()})
            self.run.set_tags({"ddm.best_trial": str(best.number)})
        for name, content in files.items():
            self.run.log_bytes(name, content)

    def _add(self, run: TrackedRun, trial: FrozenTrial) -> None:
        found = figures_of(trial)
        seen = list(trial.intermediate_values.values())
        metrics = {"training_psnr_db": seen[-1]} if seen else {}
        run.add_child(
            name=f"trial {trial.number}",
            params=trial.params,
            metrics=metrics | (metrics_of(found) if found else {}),
            tags={"ddm.state": trial.user_attrs[STATE], "ddm.reason": trial.user_attrs.get(REASON, "")},
        )


@contextmanager
def tracked(
    study: Study, *, name: str, params: Mapping[str, Any], command: str, dataset: DatasetReference | None
) -> Iterator[Tracked]:
    """Open the sweep's run, the same one each time it goes on; without a `dataset` MLflow is told nothing.

    Raises:
        DdmError: MLflow cannot be reached or refuses.
    """
    if dataset is None:
        yield Tracked(study)
        return
    from ddm_core.tracking import track_run

    with track_run(
        name=f"sweep/{name}",
        params=params,
        tags={"ddm.command": command},
        dataset=dataset,
        experiment=EXPERIMENT,
        resume=study.user_attrs.get(RUN),
    ) as run:
        study.set_user_attr(RUN, run.run_id)
        opened = Tracked(study, run)
        opened.note()
        yield opened
