"""The comparison as CSV, JSON and PNG."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medadv.common.printable import aligned, cell
from medadv.compare.curves import Curve
from medadv.compare.table import Row

PANEL = (4.2, 3.4)
DPI = 120
CURVES = {"deviation": "loss deviation", "divergence": "KL, example to smoothed example", "flipped": "share of attackable samples flipped"}


def as_records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as flat records: one column a figure, with `_low` and `_high` beside it. None: there is no such figure or interval."""
    records = []
    for row in rows:
        record: dict[str, Any] = {"attack": row.attack, "forwards": row.passes[0], "backwards": row.passes[1]}
        for name, value in {**row.metrics, **row.sizes}.items():
            ends = (None, None, None) if value is None else (value.value, value.low, value.high)
            record |= dict(zip((name, f"{name}_low", f"{name}_high"), map(_known, ends), strict=True))
        record["attackable"] = row.attackable
        records.append(record | {f"all_{name}": _known(value) for name, value in row.further.items()})
    return records


def _known(value: float | None) -> float | None:
    """JSON and a table know no NaN."""
    return None if value is None or not math.isfinite(value) else value


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line an attack."""
    records = as_records(rows)
    columns = list(dict.fromkeys(name for record in records for name in record))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({key: cell(value) if isinstance(value, str) else value for key, value in record.items()} for record in records)


def write_json(path: Path, rows: Sequence[Row], curves: Sequence[Curve], about: dict[str, Any]) -> None:
    """Everything, with settings and what the table was measured on."""
    lines = [
        {**record, "settings": None if row.settings is None else row.settings.model_dump(mode="json")}
        for record, row in zip(as_records(rows), rows, strict=True)
    ]
    path.write_text(json.dumps({**about, "attacks": lines, "curves": [asdict(curve) for curve in curves]}, indent=2) + "\n")


def write_png(path: Path, rows: Sequence[Row], curves: Sequence[Curve], title: str, metric: str) -> None:
    """Above: the metric under each condition, with intervals. Below: the curves over steps."""
    conditions = list(rows[0].metrics)
    columns = max(len(conditions), len(CURVES))
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * 2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplots(2, columns, squeeze=False)
    for axis, condition in zip(axes[0], conditions, strict=False):
        values = [row.metrics[condition] for row in rows]
        places = range(len(rows))
        axis.barh(places, [v.value for v in values], color=[f"C{i % 10}" for i in places])
        for place, v in zip(places, values, strict=True):
            axis.plot([v.low, v.high], [place, place], color="black", linewidth=1)
        axis.set_yticks(places, [row.attack for row in rows])
        axis.invert_yaxis()
        axis.set_title(condition.replace("_", " "))
        axis.set_xlabel(f"{metric} (lower: stronger attack)")
    for axis, (name, text) in zip(axes[1], CURVES.items(), strict=False):
        for number, curve in enumerate(curves, 1):
            axis.plot(getattr(curve, name), label=curve.attack, color=f"C{number % 10}")
        axis.set_xlabel("step")
        axis.set_title(text)
    if curves:
        axes[1][0].legend(fontsize="small")
    for axis in [*axes[0][len(conditions) :], *axes[1][len(CURVES) :]]:
        axis.set_axis_off()
    figure.savefig(path, dpi=DPI)


def as_text(rows: Sequence[Row]) -> str:
    """The table for a terminal: figures only, no intervals."""
    names = list(dict.fromkeys(name for row in rows for name in [*row.metrics, *row.sizes]))
    lines = [["attack", "forward", "backward", *names, "attackable"]]
    for row in rows:
        values = {**row.metrics, **row.sizes}
        figures = ["" if name not in values else "n/a" if (value := values[name]) is None else f"{value.value:.3f}" for name in names]
        lines.append([row.attack, *map(str, row.passes), *figures, "" if row.attackable is None else str(row.attackable)])
    return aligned(lines)
