"""The tidy table, as CSV and as Parquet: one row an attack cell, one row a channel of a utility cell."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from ddm_core.attack_params import IDENTITY_EMBEDDINGS
from ddm_core.attacks.sanity import STRONGEST, SanityCheck, may_judge
from ddm_core.results import IdentitySimilarity, VerificationFigures

if TYPE_CHECKING:
    import pandas

Record = Mapping[str, Any]

FIGURES = (
    *("applicable", "reason", "counts_for_gate", "verdict_counts"),
    *("top1", "ci95_low", "ci95_high", "n", "top5", "chance"),
    *("psnr_db", "ssim", "identity_similarity", "architecture"),
)
PAIRS = ("obfuscated", "linkage")
TEXTS = ("reason", "architecture", "attacker", "channel", "curve", "trials", "recogniser_sha256")
TRUTHS = ("applicable", "counts_for_gate", "verdict_counts", "dirty")


def build_table(records: Sequence[Record], sanity: Sequence[SanityCheck]) -> pandas.DataFrame:
    """Return the table of the cells' records.

    `verdict_counts` says whether the sanity gate and the attacker's own levels were passed under that seed.
    `setting_*` are the obfuscator's settings, `param_*` those of the stage. `curve` and `trials`
    are JSON.
    """
    import pandas

    parts = list(_parts(records, sanity))
    columns = dict.fromkeys(name for kind in zip(*parts, strict=True) for part in kind for name in part)
    rows = [dict(chain.from_iterable(part.items() for part in row)) for row in parts]
    values = {name: [row.get(name) for row in rows] for name in columns}
    return pandas.DataFrame(
        {name: pandas.array(some, dtype=_kind(name, some)) for name, some in values.items()}
    )


def as_csv(table: pandas.DataFrame) -> bytes:
    """Return the table as CSV; an empty field is a figure that the cell does not have."""
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text.encode()


def as_parquet(table: pandas.DataFrame) -> bytes:
    """Return the table as Parquet."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def _kind(name: str, values: Sequence[Any]) -> Any:  # noqa: ANN401 - pandas' name of a type
    """Return the type of a column by what it holds; of an empty one by its name."""
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return "string" if name in TEXTS else "boolean" if name in TRUTHS else "Float64"
    known = {frozenset({bool}): "boolean", frozenset({int}): "Int64"}
    return known.get(frozenset(kinds), "Float64" if kinds <= {int, float} else "string")


def _parts(records: Sequence[Record], sanity: Sequence[SanityCheck]) -> Iterator[tuple[dict[str, Any], ...]]:
    """Yield figures, the obfuscator's settings, the stage's settings and the origin of every row."""
    for record in records:
        attacker = record["attacker"] or STRONGEST[0]  # utility rests on the clean recogniser alone
        counts = {"verdict_counts": may_judge(attacker, record["seed"], sanity)}
        if record["stage"] == "attack":
            yield _common(record) | _attack(record["result"]) | counts, *_origin(record)
        elif record["stage"] == "utility":
            for channel, measured in record["result"]["channels"].items():
                row = _common(record) | {"channel": channel} | _channel(measured)
                yield row | counts, *_origin(record)


def _common(record: Record) -> dict[str, Any]:
    return {
        "stage": record["stage"],
        "obfuscator": record["obfuscator"],
        "method": record["settings"]["method"],
        "seed": record["seed"],
        "attacker": record["attacker"],
        "channel": None,
        **dict.fromkeys(FIGURES),
    }


def _attack(result: Record) -> dict[str, Any]:
    low, high = result["ci95"] or (None, None)
    row = {name: result[name] for name in FIGURES if name in result} | {"ci95_low": low, "ci95_high": high}
    for pairs in PAIRS:
        figures = (result["verification"] or {}).get(pairs, {})
        for name in VerificationFigures.__dataclass_fields__:
            row |= _spread(f"verification_{pairs}_{name}", figures.get(name))
    for embedding in IDENTITY_EMBEDDINGS:
        similarity = (result.get("identity") or {}).get(embedding, {})
        for name in IdentitySimilarity.__dataclass_fields__:
            row[f"identity_{embedding}_{name}"] = similarity.get(name)
    row["clean_level_top1"] = (result.get("clean_level") or {}).get("top1")
    return row | {
        name: json.dumps(result[name]) if result.get(name) else None for name in ("curve", "trials")
    }


def _channel(measured: Record) -> dict[str, Any]:
    low, high = measured["recognition_ci95"]
    return {
        "top1": measured["recognition_top1"],
        "ci95_low": low,
        "ci95_high": high,
        **{name: measured[name] for name in ("n", "psnr_db", "ssim")},
    }


def _spread(name: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any figure
    if name.endswith("_ci95"):
        low, high = value or (None, None)
        return {f"{name}_low": low, f"{name}_high": high}
    return {name: value}


def _origin(record: Record) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    settings = {
        f"setting_{name}": _plain(value) for name, value in record["settings"].items() if name != "method"
    }
    origin = dict(record["provenance"])
    params = {f"param_{name}": _plain(value) for name, value in origin.pop("params").items()}
    return settings, params, origin


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return lists as text: a column of a table holds one kind of single value."""
    return " ".join(map(str, value)) if isinstance(value, list) else value
