"""The report as a section of a model card: Markdown to paste, without pictures."""

import re
from importlib.resources import files

import jinja2

from medadv.report.record import Figure, Report, Spread
from medadv.spec.modality import amount

SPECIAL = re.compile(r"([\\`*_\[\]<>|~&#]|(?<=:)/)")
"""What Markdown, or HTML inside it, would take for more than a character."""


def card(report: Report) -> str:
    """The section. Names that come with the data are escaped, and stay on their line."""
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"md": escaped, "figure": in_figures, "spread": in_spread, "amount": amount}
    template = (files("medadv.report") / "card.md.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(report=report).rstrip() + "\n"


def escaped(text: object) -> str:
    """A text as Markdown shows it, on one line."""
    return SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def in_figures(figure: Figure) -> str:
    """Value and interval, such as `0.912 [0.880, 0.941]`."""
    if figure.value is None:
        return "n/a"
    ends = "" if figure.low is None or figure.high is None else f" [{figure.low:.3f}, {figure.high:.3f}]"
    return f"{figure.value:.3f}{ends}"


def in_spread(spread: Spread, digits: int = 3) -> str:
    """Median and ends, such as `14.2 (9.1 to 20.3)`."""
    if spread.median is None or spread.smallest is None or spread.largest is None:
        return "n/a"
    return f"{spread.median:.{digits}g} ({spread.smallest:.{digits}g} to {spread.largest:.{digits}g})"
