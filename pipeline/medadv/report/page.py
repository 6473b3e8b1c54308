"""The report as one HTML file: its figures, and the pictures of a few samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import chain
from pathlib import Path
from shlex import quote

import jinja2
from markupsafe import Markup

from medadv.common.errors import IntegrityError, SpecError
from medadv.common.files import writable_file, write_file
from medadv.common.hashing import hash_file
from medadv.common.progress import SILENT
from medadv.common.record import parse, plain
from medadv.corpus.folder import Workspace, refuse_in_corpus
from medadv.corpus.manifest import Manifest
from medadv.corpus.opening import open_corpus, reading
from medadv.corpus.quarantine import read_quarantine
from medadv.plan.plan_settings import thresholds
from medadv.report import charts
from medadv.report.build import build
from medadv.report.card import card
from medadv.report.cases import Case, Look, Picture, choose, life_size, opening, paged, show
from medadv.report.columns import AttackColumns, Columns, read_columns
from medadv.report.paint import WINDOWS
from medadv.report.readback import ReadBack, measure_noise, read_back
from medadv.report.record import Figure, Report, Result
from medadv.scoring.intervals import Interval
from medadv.scoring.success import SuccessRule
from medadv.spec.data import class_names
from medadv.spec.modality import MODALITIES, UNITS, amount
from medadv.spec.normalize import hu_window
from medadv.store.reader import open_shard

QUARANTINE_SHOWN = 200
OPENING_ATTACKS = 4
"""Attacks whose images the page opens with; the others follow in the contact sheets."""
PICTURES_BUDGET = 9_500_000
"""Bytes that all pictures may take: what the others leave of it, slices to page through share."""


@dataclass(frozen=True)
class Drawn:
    """One attack's pictures and charts."""

    name: str
    epsilon: float
    cases: list[Case]
    life: tuple[str, list[Picture]]
    plot: Markup
    charts: list[tuple[str, Markup]]
    stored: ReadBack


@dataclass(frozen=True)
class Read:
    """What was read of a corpus for its report."""

    workspace: Workspace
    manifest: Manifest
    columns: Columns
    stored: dict[str, ReadBack]
    window: tuple[float, float] | None
    report: Report


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
    manifest = _checked(corpus, links, tell)
    if out is not None:
        refuse_in_corpus(out)
    target = writable_file(out or corpus / "report.html")
    with reading(corpus):
        page = _page(_read(corpus, manifest, window))
    write_file(target, page.encode())
    return target


def read_report(corpus: Path, window: str | None = None, *, links: bool = False, tell: Callable[[str], None] = SILENT.message) -> Report:
    """The figures alone; arguments and errors as above."""
    manifest = _checked(corpus, links, tell)
    with reading(corpus):
        return _read(corpus, manifest, window).report


def _checked(corpus: Path, links: bool, tell: Callable[[str], None]) -> Manifest:
    manifest = open_corpus(corpus, links=links, tell=tell)
    workspace = Workspace(corpus)
    if not manifest.samples:
        raise SpecError(f"{workspace.root}: holds no sample to report on")
    recorded = workspace.manifest_hash
    if not recorded.exists() or recorded.read_text().split()[0] != hash_file(workspace.manifest):
        raise IntegrityError(f"{workspace.manifest}: differs from its recorded hash; see `medadv verify {quote(str(workspace.root))}`")
    return manifest


def _read(corpus: Path, manifest: Manifest, window: str | None) -> Read:
    workspace, chosen = Workspace(corpus), choose_window(manifest, window)
    columns = read_columns(corpus, manifest)
    stored = {name: read_back(columns, name, settings.epsilon, chosen[0]) for name, settings in manifest.attacks.items()}
    noise = measure_noise(columns) if manifest.data.unit == "hu" else None
    report = build(workspace, manifest, columns, stored, noise, chosen, _rules(columns, manifest))
    return Read(workspace, manifest, columns, stored, chosen[0], report)


def _page(read: Read) -> str:
    manifest, columns, report = read.manifest, read.columns, read.report
    quarantined = read_quarantine(read.workspace)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"short": charts.short, "amount": amount}
    here = files("medadv.report")
    shown = list(manifest.attacks)[:OPENING_ATTACKS]
    largest = max(settings.epsilon for settings in manifest.attacks.values())
    return environment.from_string((here / "page.html.j2").read_text(encoding="utf-8")).render(
        style=(here / "style.css").read_text(encoding="utf-8"),
        manifest=manifest,
        report=report,
        # Volumes and slices are a choice where there are volumes, and without a size nothing is fitted.
        preprocess={
            key: value
            for key, value in plain(manifest.preprocess).items()
            if (key != "as" or MODALITIES[manifest.data.modality].in_space) and (key != "fit" or manifest.preprocess.size)
        },
        packages=manifest.environment.packages,
        unit=UNITS[manifest.data.unit],
        opening=opening(columns, shown, _look(read, largest, manifest.victim.score_threshold)),
        not_opened=len(manifest.attacks) - len(shown),
        attacks=_drawn(read),
        with_goals=any(settings.goal != "untruth" for settings in manifest.attacks.values()),
        rule=_rule(report),
        quarantined=quarantined[:QUARANTINE_SHOWN],
        left_out=max(0, len(quarantined) - QUARANTINE_SHOWN),
        card=card(report),
    )


def _look(read: Read, limit: float, threshold: float) -> Look:
    return Look(read.window, limit, threshold, class_names(read.manifest.data) or None)


def _drawn(read: Read) -> list[Drawn]:
    """Every attack's pictures. Slices to page through share what the others leave."""
    manifest, columns = read.manifest, read.columns
    seed = int(manifest.content_root[:8], 16)
    chosen = {name: choose(attack, seed) for name, attack in columns.attacks.items()}
    limits = thresholds(manifest)
    looks = {name: _look(read, settings.epsilon, limits[name]) for name, settings in manifest.attacks.items()}
    sheets = {
        name: [show(columns, name, kind, number, looks[name], read.workspace.root.name) for kind, number in each]
        for name, each in chosen.items()
    }
    life = {name: life_size(columns, name, look) for name, look in looks.items()}
    parts = [*(case.pictures for each in sheets.values() for case in each), *(pictures for _, pictures in life.values())]
    drawn = list(chain.from_iterable(parts))
    left = max(0, PICTURES_BUDGET - sum(len(picture.uri) for picture in drawn))
    budget = left // max(1, sum(len(each) for each in chosen.values()))
    found = []
    for name, look in looks.items():
        numbers = [number for _, number in chosen[name]]
        cases = [
            replace(case, slices=paged(columns, name, number, look, budget)) for case, number in zip(sheets[name], numbers, strict=True)
        ]
        plot = charts.intervals(_lines([each for each in read.report.results if each.attack == name]), f"Metrics of {name}")
        histograms = _charts(columns.attacks[name], read.stored[name], UNITS[manifest.data.unit], look.limit)
        found.append(Drawn(name, look.limit, cases, life[name], plot, histograms, read.stored[name]))
    return found


def _lines(results: Sequence[Result]) -> list[tuple[str, Interval, str]]:
    lines = []
    for each in results:
        lines.append((f"{each.metric}, clean", _interval(each.clean), charts.BLUE))
        lines.append((f"{each.metric}, adv.", _interval(each.adversarial), charts.ORANGE))
    return lines


def _interval(figure: Figure) -> Interval:
    return Interval(*(float("nan") if value is None else value for value in (figure.value, figure.low, figure.high)))


def _charts(found: AttackColumns, stored: ReadBack, unit: str, epsilon: float) -> list[tuple[str, Markup]]:
    ssim = "SSIM of the slices shown" if stored.per_slice else "SSIM"
    return [
        (f"L-infinity, {unit}", charts.histogram(found.linf, "L-infinity norms", limits=(0.0, epsilon))),
        (f"L2, {unit}", charts.histogram(found.l2, "L2 norms")),
        (f"{ssim}, {stored.count} samples, as shown", charts.histogram(stored.ssim_shown, "SSIM")),
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


def _rules(columns: Columns, manifest: Manifest) -> dict[str, str]:
    """Of each attack, its stored rule of success in words."""
    found = {}
    with open_shard(columns.places[0][0]) as file:
        for name in manifest.attacks:
            rule = parse(SuccessRule, str(file[f"attacks/{name}"].attrs["success_rule"]))
            found[name] = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in sorted(plain(rule).items()))
    return found


def _rule(report: Report) -> str:
    """The rule of all attacks, or where they have goals of their own, each rule with the attacks that it is of."""
    rules: dict[str, list[str]] = {}
    for attack in report.attacks:
        rules.setdefault(attack.rule, []).append(attack.name)
    return next(iter(rules)) if len(rules) == 1 else " / ".join(f"{', '.join(names)}: {text}" for text, names in rules.items())
