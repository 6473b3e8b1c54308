"""What does a person want to know when a run ends? What came out, whether it is to be believed, and what to do next: a line each."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from medadv.cli.console import number

if TYPE_CHECKING:
    from medadv.corpus.manifest import Manifest
    from medadv.run.run import Result


def ending(result: "Result", spec: Path) -> tuple[str, str, str]:
    """The three lines. spec: as the user named it."""
    return f"Made: {_made(result)}", _believable(result.manifest), f"Next: {_next(result, spec)}"


def _made(result: "Result") -> str:
    manifest = result.manifest
    count = len(manifest.attacks)
    text = f"{manifest.samples} samples, {count} attack{'s' if count != 1 else ''} each, in {result.corpus}"
    told = {name: metrics for name, metrics in manifest.metrics.items() if metrics.adversarial is not None}
    if not told:
        return text
    name, metrics = min(told.items(), key=lambda item: item[1].adversarial or 0.0)
    return f"{text}; {name} takes {metrics.metric} from {number(metrics.clean)} to {number(metrics.adversarial)}"


def _believable(manifest: "Manifest") -> str:
    baseline, warnings = manifest.baseline, manifest.sanity.warnings if manifest.sanity else []
    if baseline is not None and baseline.warning is not None:
        return f"NOT believable: {baseline.warning}"
    if baseline is None or baseline.ignoring_image is None:
        clean = "nothing tells what an answer that ignores the image gets"
    else:
        trivial = f"where an answer that ignores the image gets {number(baseline.ignoring_image)}"
        clean = f"clean {baseline.metric} {number(baseline.clean)}, {trivial}"
    if warnings:
        more = f" (and {len(warnings) - 1} more, in the report)" if len(warnings) > 1 else ""
        return f"Believable with care: {clean}; the checks of the attack warn: {warnings[0]}{more}"
    if manifest.sanity is None or manifest.sanity.samples == 0:
        return f"Believable as far as it was looked at: {clean}; the attack was not checked"
    return f"Believable: {clean}; the checks of the attack found nothing"


def _next(result: "Result", spec: Path) -> str:
    manifest, corpus = result.manifest, shlex.quote(str(result.corpus))
    if manifest.run.shards_missing:
        return f"medadv run {shlex.quote(str(spec))}      # makes what is missing, {manifest.run.shards_missing} shards"
    if manifest.baseline is not None and manifest.baseline.warning is not None:
        return f"medadv victim {shlex.quote(str(spec))}      # what the model is understood as, and what it answers"
    refused = f"; {manifest.quarantined} inputs were refused, {corpus}/quarantine.jsonl says why" if manifest.quarantined else ""
    return f"medadv report {corpus}      # a page to open in a browser{refused}"
