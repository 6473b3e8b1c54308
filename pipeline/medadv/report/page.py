"""Put the report together: facts from the manifest, columns from the shards, pictures of a few samples, one HTML file."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from shlex import quote
from typing import Any

import jinja2

from medadv.common.errors import IntegrityError, SpecError
from medadv.common.files import writable_file, write_file
from medadv.common.hashing import hash_file
from medadv.common.progress import SILENT
from medadv.common.record import parse, plain
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest
from medadv.corpus.opening import open_corpus, reading
from medadv.corpus.quarantine import read_quarantine
from medadv.report import charts, checks
from medadv.report.cases import Look, choose, show
from medadv.report.columns import Columns, read_columns
from medadv.report.estimates import NAMES, metrics, per_class, success
from medadv.report.paint import WINDOWS
from medadv.report.readback import ReadBack, read_back
from medadv.report.words import RESPONSIBLE, citations, methods
from medadv.scoring.intervals import Interval, resamples_for
from medadv.scoring.success import SuccessRule
from medadv.spec.data import numbered
from medadv.spec.goal import in_words
from medadv.spec.modality import MODALITIES
from medadv.spec.normalize import described, hu_window
from medadv.store.reader import open_shard

UNITS = {"hu": "HU", "level8": "grey levels"}
QUARANTINE_SHOWN = 200


def write_report(
    corpus: Path, out: Path | None = None, window: str | None = None, *, links: bool = False, tell: Callable[[str], None] = SILENT.message
) -> Path:
    """Write one self-contained HTML file about a finished corpus; the same corpus gives the same bytes.

    Args:
        corpus: folder that holds manifest.json.
        out: file to write, `report.html` in the corpus by default.
        window: name of the CT window to look through; the victim's own by default.
        links: follow files of the corpus that are symbolic links.
        tell: told where they lead.

    Raises:
        IntegrityError: the manifest or a shard cannot be read, or the manifest is not the one that was hashed.
        SpecError: unknown window, nothing to report on, or a file that cannot be written.
    """
    workspace = Workspace(corpus)
    manifest = open_corpus(corpus, links=links, tell=tell)
    _check(workspace, manifest)
    target = writable_file(out or corpus / "report.html")
    with reading(corpus):
        columns = read_columns(corpus, manifest)
        page = _page(workspace, manifest, columns, window)
    write_file(target, page.encode())
    return target


def _check(workspace: Workspace, manifest: Manifest) -> None:
    if not manifest.samples:
        raise SpecError(f"{workspace.root}: holds no sample to report on")
    recorded = workspace.manifest_hash
    if not recorded.exists() or recorded.read_text().split()[0] != hash_file(workspace.manifest):
        raise IntegrityError(f"{workspace.manifest}: differs from its recorded hash; see `medadv verify {quote(str(workspace.root))}`")


def _page(workspace: Workspace, manifest: Manifest, columns: Columns, window: str | None) -> str:
    data = manifest.data
    unit, names = UNITS[data.unit], data.classes or numbered(data.label_map or {}) or None
    shown_window, window_text = choose_window(manifest, window)
    threshold = manifest.victim.score_threshold
    seed = int(manifest.content_root[:8], 16)
    corpus = workspace.root.name
    attacks = []
    clean: dict[str, Interval] = {}
    for name, settings in manifest.attacks.items():
        found = columns.attacks[name]
        clean = clean or metrics(columns, found.clean, found.score_clean)
        adversarial = metrics(columns, found.adversarial, found.score_adversarial)
        stored = read_back(columns, name, settings.epsilon, names)
        look = Look(shown_window, settings.epsilon, threshold, names)
        metric, counted, rows = per_class(columns, found, names)
        attacks.append(
            {
                "name": name,
                "settings": settings,
                "metrics": [(NAMES[key], clean[key], value) for key, value in adversarial.items()],
                "success": success(found),
                "goal": "" if settings.goal == "untruth" else in_words(settings.goal, data.task),
                "attackable": int(found.attackable.sum()),
                "plot": charts.intervals(
                    [line for key in clean for line in _lines(NAMES[key], clean[key], adversarial[key])], f"Metrics of {name}"
                ),
                "charts": _charts(found, stored, unit, settings.epsilon),
                "stored": stored,
                "class_metric": metric,
                "class_counted": counted,
                "classes": rows or stored.dice,
                "cases": [show(columns, name, kind, number, look, corpus) for kind, number in choose(found, seed)],
            }
        )
    quarantined = read_quarantine(workspace)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["short"] = charts.short
    here = files("medadv.report")
    return environment.from_string((here / "page.html.j2").read_text(encoding="utf-8")).render(
        style=(here / "style.css").read_text(encoding="utf-8"),
        manifest=manifest,
        names=NAMES,
        # Volumes and slices are a choice where there are volumes, and without a size nothing is fitted.
        preprocess={
            key: value
            for key, value in plain(manifest.preprocess).items()
            if (key != "as" or MODALITIES[data.modality].in_space) and (key != "fit" or manifest.preprocess.size)
        },
        manifest_sha256=hash_file(workspace.manifest),
        normalize="; ".join(described(manifest.victim.normalize)),
        packages=manifest.environment.packages,
        unit=unit,
        modality=MODALITIES[data.modality].title,
        attacks=attacks,
        level=f"{resamples_for(columns.task, len(columns.ids))} resamples of the samples",
        rule=_rule(columns, manifest),
        window=window_text,
        quarantined=quarantined[:QUARANTINE_SHOWN],
        left_out=max(0, len(quarantined) - QUARANTINE_SHOWN),
        sanity=checks.rows(manifest.sanity, unit),
        methods=methods(manifest, unit),
        citations=citations(manifest.attacks),
        responsible=RESPONSIBLE,
    )


def _lines(name: str, clean: Interval, adversarial: Interval) -> list[tuple[str, Interval, str]]:
    return [(f"{name}, clean", clean, charts.BLUE), (f"{name}, adv.", adversarial, charts.ORANGE)]


def _charts(found: Any, stored: ReadBack, unit: str, epsilon: float) -> list[tuple[str, Any]]:
    ssim = "SSIM of the slices shown" if stored.per_slice else "SSIM"
    return [
        (f"L-infinity, {unit}", charts.histogram(found.linf, "L-infinity norms", limits=(0.0, epsilon))),
        (f"L2, {unit}", charts.histogram(found.l2, "L2 norms")),
        (f"{ssim}, {stored.count} samples", charts.histogram(stored.ssim, "SSIM")),  # type: ignore[arg-type]
        ("score drop, clean minus adversarial", charts.histogram(found.drop, "score drops", charts.ORANGE, (-1.0, 1.0))),
    ]


def choose_window(manifest: Manifest, window: str | None) -> tuple[tuple[float, float] | None, str]:
    """Bounds of the CT window in HU and what to call it; None and no name for 8-bit images."""
    if window is not None and window not in WINDOWS:
        raise SpecError(f"--window {window}: take one of {', '.join(WINDOWS)}")
    if manifest.data.unit != "hu":
        return None, ""
    own = hu_window(manifest.victim.normalize)
    name, bounds = (window, WINDOWS[window]) if window else ("the victim's window", own) if own else ("lung", WINDOWS["lung"])
    return (float(bounds[0]), float(bounds[1])), f"{name}, {bounds[0]:g} to {bounds[1]:g} HU"


def _rule(columns: Columns, manifest: Manifest) -> str:
    """The stored rule, or where attacks have goals of their own, each rule with the attacks that it is of."""
    rules: dict[str, list[str]] = {}
    with open_shard(columns.places[0][0]) as file:
        for name in manifest.attacks:
            rule = parse(SuccessRule, str(file[f"attacks/{name}"].attrs["success_rule"]))
            text = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in sorted(plain(rule).items()))
            rules.setdefault(text, []).append(name)
    return next(iter(rules)) if len(rules) == 1 else " / ".join(f"{', '.join(names)}: {text}" for text, names in rules.items())
