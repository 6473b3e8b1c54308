"""The hardening as JSON and one page: the curve over generations, what was chosen and why, what it is worth, and what it cost."""

import base64
import json
from collections.abc import Sequence
from functools import reduce
from importlib.resources import files
from io import BytesIO
from operator import add
from pathlib import Path

import jinja2
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from medadv.common.files import write_file
from medadv.hardening.folder import Home
from medadv.hardening.record import Cost, Hardening, Passes
from medadv.report.estimates import NAMES
from medadv.report.record import Figure
from medadv.spec.hardening import OF_THE_LOOP
from medadv.spec.modality import UNITS, amount

SIZE, DPI = (7.2, 4.2), 120
LIMITS = (
    "Fresh attacks find upper bounds: a stronger one may find more, and `medadv evaluate` lets a set of strong ones loose on the "
    "chosen weights. The figures hold for perturbations of at most epsilon at every voxel of the stored grid, on these images, and "
    "say nothing of other changes of an image (blur, other scanners, other populations). Validation chose the generation, so that "
    "its figures there are the luckier ones: what the model is worth stands under final images."
)


def write_hardening(home: Home, record: Hardening) -> list[Path]:
    """Record and page, each in one step. Returns them."""
    write_record(home, record)
    write_file(home.page, page(record).encode())
    return [home.record, home.page]


def write_record(home: Home, record: Hardening) -> None:
    """The record alone."""
    write_file(home.record, (json.dumps(record.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False) + "\n").encode())


def page(record: Hardening) -> str:
    """One HTML file without scripts or network."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["amount"] = amount
    here = files("medadv.hardening")
    return environment.from_string((here / "page.html.j2").read_text(encoding="utf-8")).render(
        style=(files("medadv.report") / "style.css").read_text(encoding="utf-8"),
        record=record,
        settings=record.settings.model_dump(mode="json", exclude=set(OF_THE_LOOP) if record.settings.foreign else None),
        metric=NAMES[record.metric],
        unit=UNITS[record.unit],
        picture=base64.b64encode(drawn(record)).decode(),
        cost=total_cost(record),
        limits=LIMITS,
    )


def total_cost(record: Hardening) -> Cost | None:
    """Of all generations; None before the first."""
    each = [generation.cost for generation in record.generations]
    if not each:
        return None

    def total(part: Sequence[Passes]) -> Passes:
        return reduce(add, part)

    return Cost(
        attacks=total([cost.attacks for cost in each]),
        training=total([cost.training for cost in each]),
        control=total([cost.control for cost in each]),
        measuring=total([cost.measuring for cost in each]),
    )


def drawn(record: Hardening) -> bytes:
    """PNG of the metric over generations, clean and under attack, with intervals, beside the control's clean one."""
    drawing = Drawing(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(drawing)
    axis = drawing.subplots()
    first = [(0, record.victim)]
    models = [*first, *((each.number, each.validation) for each in record.generations)]
    _line(axis, [(at, compared.clean) for at, compared in models], "C0", "clean")
    _line(axis, [(at, compared.robust) for at, compared in models], "C3", "under fresh attacks")
    controls = [(0, record.victim.clean), *((each.number, each.control.clean) for each in record.generations)]
    axis.plot(*_points(controls), color="C0", linestyle=":", label="control, clean")
    if record.control is not None and record.control.robust is not None and record.control.robust.value is not None:
        axis.plot([len(record.generations)], [record.control.robust.value], "x", color="C3", label="control, under fresh attacks")
    if record.ignoring_image is not None:
        axis.axhline(record.ignoring_image, color="black", linestyle="--", linewidth=1, label="ignores the image")
    if record.choice is not None:
        axis.axvline(record.choice.generation, color="C2", linewidth=1, label="chosen")
    axis.set_ylim(-0.02, 1.02)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("generation; 0 is the victim")
    axis.set_ylabel(NAMES[record.metric])
    axis.set_title(f"{record.name}: {record.validation_samples} validation images")
    axis.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    memory = BytesIO()
    drawing.savefig(memory, dpi=DPI, metadata={"Software": None})
    return memory.getvalue()


def _line(axis: Axes, figures: Sequence[tuple[int, Figure | None]], colour: str, label: str) -> None:
    axis.plot(*_points(figures), marker="o", markersize=3, color=colour, label=label)
    ends = [(at, each.low, each.high) for at, each in figures if each is not None and each.low is not None and each.high is not None]
    if ends:
        where, low, high = zip(*ends, strict=True)
        axis.fill_between(where, low, high, color=colour, alpha=0.15)


def _points(figures: Sequence[tuple[int, Figure | None]]) -> tuple[list[int], list[float]]:
    found = [(at, each.value) for at, each in figures if each is not None and each.value is not None]
    return [at for at, _ in found], [value for _, value in found]
