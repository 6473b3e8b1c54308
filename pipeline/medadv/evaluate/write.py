"""The evaluation as JSON, CSV, PNG and one page."""

import base64
import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from io import BytesIO, StringIO
from pathlib import Path

import jinja2
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing

from medadv.common.files import all_or_nothing
from medadv.common.printable import cell
from medadv.evaluate.record import Evaluation
from medadv.report.estimates import NAMES
from medadv.report.record import Figure
from medadv.report.words import RESPONSIBLE
from medadv.spec.modality import UNITS, amount

STEM = "evaluation"
SIZE, DPI = (6.4, 4.0), 120
COLUMNS = ("part", "epsilon", "class", "figure", "unit", "value", "low", "high")


def write_evaluation(folder: Path, evaluation: Evaluation) -> list[Path]:
    """All four files, or none where the disk is full. Returns them."""
    picture = drawn(evaluation)
    contents = {
        "json": (json.dumps(evaluation.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False) + "\n").encode(),
        "csv": as_csv(evaluation).encode(),
        "png": picture,
        "html": page(evaluation, picture).encode(),
    }
    with all_or_nothing(folder) as made:
        for ending, content in contents.items():
            (made / f"{STEM}.{ending}").write_bytes(content)
    return [folder / f"{STEM}.{ending}" for ending in contents]


def as_csv(evaluation: Evaluation) -> str:
    """One line a figure."""
    return csv_text([COLUMNS, *_rows(evaluation)])


def csv_text(rows: Iterable[Sequence[str | float | None]]) -> str:
    """A CSV file's content; what is not defined is an empty cell."""
    text = StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([cell(value) if isinstance(value, str) else value for value in row] for row in rows)
    return text.getvalue()


def _rows(evaluation: Evaluation) -> Iterator[tuple[str | float | None, ...]]:
    def row(part: str, epsilon: float, name: str, figure: str, unit: str, value: Figure) -> tuple[str | float | None, ...]:
        return part, float(epsilon), name, figure, unit, value.value, value.low, value.high

    for metric, curve in evaluation.curves.items():
        for point in curve.points:
            yield row("curve", point.epsilon, "", metric, "", point.metric)
    for at in evaluation.epsilons:
        for each in at.clinical.classes:
            for reading in each.readings:
                for which in ("clean", "attacked", "difference"):
                    yield row(which, at.epsilon, each.name, reading.name, reading.unit, getattr(reading, which))


def drawn(evaluation: Evaluation) -> bytes:
    """PNG of every metric over epsilon, with intervals, and what an answer that ignores the image gets."""
    drawing = Drawing(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(drawing)
    axis = drawing.subplots()
    for number, (metric, curve) in enumerate(evaluation.curves.items()):
        points, colour = curve.points, f"C{number}"
        values = [(point.epsilon, point.metric.value) for point in points if point.metric.value is not None]
        axis.plot([at for at, _ in values], [value for _, value in values], marker="o", color=colour, label=NAMES[metric])
        ends = [(p.epsilon, p.metric.low, p.metric.high) for p in points if p.metric.low is not None and p.metric.high is not None]
        if ends:
            where, low, high = zip(*ends, strict=True)
            axis.fill_between(where, low, high, color=colour, alpha=0.2)
    baseline = evaluation.baseline
    if baseline is not None and baseline.ignoring_image is not None:
        axis.axhline(baseline.ignoring_image, color="black", linestyle="--", linewidth=1, label=f"ignores the image ({baseline.metric})")
    axis.set_ylim(-0.02, 1.02)
    axis.set_xlabel(f"epsilon, {UNITS[evaluation.unit]} (L-infinity)")
    axis.set_title(f"{evaluation.name}: worst answers of {evaluation.samples} samples")
    axis.legend(fontsize="small")
    memory = BytesIO()
    drawing.savefig(memory, dpi=DPI, metadata={"Software": None})
    return memory.getvalue()


def page(evaluation: Evaluation, picture: bytes) -> str:
    """One HTML file without scripts or network."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["amount"] = amount
    here = files("medadv.evaluate")
    return environment.from_string((here / "page.html.j2").read_text(encoding="utf-8")).render(
        style=(files("medadv.report") / "style.css").read_text(encoding="utf-8"),
        evaluation=evaluation,
        names=NAMES,
        unit=UNITS[evaluation.unit],
        picture=base64.b64encode(picture).decode(),
        responsible=RESPONSIBLE,
    )
