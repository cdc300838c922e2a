"""Identity in what attackers rebuild, seeds together: each figure beside its references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ddm_core.benchmark.results_file import CellResult, Results
from ddm_core.results import IdentitySimilarity

REFERENCES = ("same_person", "mean_face", "different_people")
"""What a similarity is read against, as fields of IdentitySimilarity."""


@dataclass(frozen=True)
class IdentityColumn:
    """One attacker judged by one embedding: mean cosines by obfuscator, and the references' by name."""

    attacker: str
    embedding: str
    similarities: dict[str, float]
    references: dict[str, float]


def identity_table(results: Results) -> list[IdentityColumn]:
    """Return a column for every embedding and every attacker that rebuilds photos, the embeddings together.

    Cells written before there were references have the recogniser's similarity alone.
    """
    pairs = dict.fromkeys((embedding, cell.attacker) for cell in results.cells for embedding in _judged(cell))
    order = sorted(
        pairs, key=lambda pair: list(dict.fromkeys(embedding for embedding, _ in pairs)).index(pair[0])
    )
    return [_column(results.cells, attacker, embedding) for embedding, attacker in order]


def _judged(cell: CellResult) -> dict[str, IdentitySimilarity | float]:
    result = cell.result
    if result.identity:
        return dict(result.identity)
    return {} if result.identity_similarity is None else {"recogniser": result.identity_similarity}


def _column(cells: Sequence[CellResult], attacker: str, embedding: str) -> IdentityColumn:
    similarities: dict[str, list[float]] = {}
    references: dict[str, list[float]] = {}
    for cell in cells:
        judged = _judged(cell).get(embedding) if cell.attacker == attacker else None
        if judged is None:
            continue
        value = judged.reconstruction if isinstance(judged, IdentitySimilarity) else judged
        similarities.setdefault(cell.obfuscator, []).append(value)
        for name in REFERENCES:
            reference = getattr(judged, name, None)
            if reference is not None:
                references.setdefault(name, []).append(reference)
    return IdentityColumn(attacker, embedding, _means(similarities), _means(references))


def _means(values: dict[str, list[float]]) -> dict[str, float]:
    return {name: sum(some) / len(some) for name, some in values.items()}
