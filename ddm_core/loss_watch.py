"""Notices a loss that is not finite in the very step, and names the photos of its batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddm_core.errors import DdmError

MOST_KEYS = 64  # named in a message


@dataclass(frozen=True)
class _Asked:
    step: int
    names: Callable[[], list[str]]
    photos: int
    finite: Tensor
    answered: torch.cuda.Event | None


@dataclass(frozen=True)
class LossWatch:
    """Watches the training `name`; `standing` says what an end now leaves to go on from.

    On a GPU the answer is read when it has arrived, a step or so later: waiting for it would idle the device.
    """

    name: str
    standing: Callable[[], str]
    _asked: deque[_Asked] = field(default_factory=deque, repr=False)

    def look(self, step: int, names: Callable[[], list[str]], photos: int, loss: Tensor) -> None:
        """Ask whether the loss at `step` is finite, of so many `photos`.

        `names`, when asked, tells those that this process knows of; others may have read the rest.

        Raises:
            DdmError: it is not, or an earlier one was not.
        """
        finite, answered = torch.isfinite(loss.detach()).to("cpu", non_blocking=True), None
        if loss.is_cuda:
            answered = torch.cuda.Event()  # type: ignore[no-untyped-call]
            answered.record()
        self._asked.append(_Asked(step, names, photos, finite, answered))
        while self._asked and _has_arrived(self._asked[0]):
            self._require_finite(self._asked.popleft())

    def settle(self) -> None:
        """Wait for every answer that is still due; raises as `look`."""
        while self._asked:
            asked = self._asked.popleft()
            if asked.answered:
                asked.answered.synchronize()
            self._require_finite(asked)

    def _require_finite(self, asked: _Asked) -> None:
        if not asked.finite:
            raise DdmError(
                f"train {self.name}: the loss is not finite at step {asked.step},"
                f" batch {_listed(asked.names(), asked.photos)}; lower learning_rate, or look at these"
                f" photos; {self.standing()}"
            )


def _listed(names: list[str], photos: int) -> str:
    more = f" and {len(names) - MOST_KEYS} more" if len(names) > MOST_KEYS else ""
    unknown = photos - len(names)
    others = f" and {unknown} that other processes read" if unknown else ""
    return ", ".join(names[:MOST_KEYS]) + more + others


def _has_arrived(asked: _Asked) -> bool:
    return asked.answered is None or bool(asked.answered.query())  # type: ignore[no-untyped-call]
