"""The manifest's sanity checks in words: what was found, and what a sound attack shows."""

from collections.abc import Callable
from typing import Any

from medadv.common.record import plain
from medadv.corpus.manifest import SanityReport

Row = tuple[str, str, str]


def rows(sanity: SanityReport | None, unit: str) -> list[Row] | None:
    """(check, found, what a sound attack shows) for each check of the manifest; None where none were made.

    Checks that this version does not know are shown under their own names.
    """
    if sanity is None:
        return None
    found: list[Row] = []
    recorded = plain(sanity)
    for key, (title, expected, text) in CHECKS.items():
        if key in recorded:
            found.append((title.format(unit=unit), "not measured" if recorded[key] is None else text(recorded[key], unit), expected))
    known = {*CHECKS, "warnings", "sample_ids", "rows", "samples", "attack"}
    found += [(key.replace("_", " "), _plain(value), "") for key, value in recorded.items() if key not in known]
    return [*found, *(("warning", text, "") for text in sanity.warnings)]


def _ladder(values: list[dict[str, float]], key: str) -> str:
    return ", ".join(f"{step[key]:g}: {step['success']:.0%}" for step in values)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_plain(part)}" for key, part in value.items())
    if isinstance(value, list):
        return "; ".join(_plain(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not measured" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


CHECKS: dict[str, tuple[str, str, Callable[[Any, str], str]]] = {
    "epsilon_ladder": (
        "success at epsilon, {unit}",
        "nothing at 0, never less with more",
        lambda value, unit: _ladder(value, "epsilon"),
    ),
    "steps_ladder": (
        "success after steps",
        "no less with more; still rising at the end: take more steps",
        lambda value, unit: _ladder(value, "steps"),
    ),
    "epsilon_zero_is_identity": ("epsilon 0 changes nothing", "yes", lambda value, unit: _plain(value)),
    "huge_epsilon": (
        "success at a huge epsilon",
        "all; less points to masked gradients",
        lambda value, unit: f"{value['success']:.0%} at {value['epsilon']:g} {unit}",
    ),
    "noise": (
        "success of noise at the same epsilon",
        "far less than the attack",
        lambda value, unit: f"{value['success']:.0%}; the attack: {value['white_box']:.0%}",
    ),
    "transfer": (
        "success on the second victim",
        "less than on the attacked one",
        lambda value, unit: f"{value['success']:.0%}; the attacked one: {value['white_box']:.0%}",
    ),
    "zero_gradients": ("gradients that are exactly 0", "few", lambda value, unit: f"{value:.1%}"),
    "clamped": ("probabilities of 0 or 1, where no gradient passes", "few", lambda value, unit: f"{value:.1%}"),
    "worst_case": (
        "success of the best attack for each sample",
        "no less than any attack alone",
        lambda value, unit: f"{value['success']:.0%} ({', '.join(value['attacks'])})",
    ),
}
"""Key of the manifest: title, what a sound attack shows, and the finding as text."""
