"""The figures as a record: the page's, the JSON's and the model card's are the same, whatever names the data brings."""

import html
import json
import re
import shutil
from pathlib import Path

import pytest
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec
from typer.testing import CliRunner

from medadv.cli.app import app
from medadv.common.record import parse
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.prepare.request import Options
from medadv.report import page as pages
from medadv.report.card import card, escaped
from medadv.report.page import read_report, write_report
from medadv.report.record import Figure, Report
from medadv.report.text import as_text
from medadv.run.run import run

HOSTILE = "<script>alert(1)</script>|`x`_*[a](http://b)"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two sites, with classes of hostile names, and a key that says who is grouped."""
    folder = tmp_path_factory.mktemp("sites")
    draw_pictures(folder / "data", 6)
    labels = folder / "data" / "labels.csv"
    head, *rows = labels.read_text().splitlines()
    sited = [f"{row},{site}" for row, site in zip(rows, [*["North <b>"] * 2, *[""] * 4], strict=True)]
    labels.write_text("\n".join([f"{head},site", *sited]) + "\n")
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    changes = {"data__classes": ["healthy", HOSTILE], "data__group": "patient", "data__strata": ["site"], "sanity_samples": 0}
    with pytest.MonkeyPatch.context() as patch:
        from contextlib import nullcontext

        from tests.conftest import InlinePool

        patch.setattr("medadv.run.cluster.connect", lambda *_, **__: nullcontext(InlinePool()))
        return run(tiny_spec(folder, **changes), Options(), quiet).corpus


@pytest.fixture(scope="module")
def text(corpus: Path) -> str:
    return as_text(corpus, "json")


@pytest.fixture(scope="module")
def report(text: str) -> Report:
    return parse(Report, text)


@pytest.fixture(scope="module")
def page(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(corpus, tmp_path_factory.mktemp("page") / "r.html").read_text()


def test_figures_of_the_json_stand_on_the_page(report: Report, page: str) -> None:
    shown = [html.unescape(row) for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL)]
    for each in (*report.results, *report.drops):
        told = [f"{value:.3f}" for value in (each.clean.value, each.adversarial.value) if value is not None]
        assert any(each.attack in row and all(value in row for value in told) for row in shown), each
    for answer in report.checklist:
        assert html.escape(answer.point, quote=False) in page
    for sentence in (*report.limits, *report.not_to_conclude):
        assert sentence in html.unescape(page)


def test_parts_are_counted_by_site_and_class(report: Report) -> None:
    """Two of six pictures come from the north, of one patient; nothing is said of the others."""
    told = {parting.by: {part.name: (part.samples, part.groups) for part in parting.parts} for parting in report.population.partings}
    assert told == {"class": {"healthy": (3, 3), HOSTILE: (3, 3)}, "site": {"North <b>": (2, 1), "": (4, 2)}}
    assert (report.population.samples, report.population.groups, report.population.samples_per_group.median) == (6, 3, 2)
    by_site = [drop for drop in report.drops if drop.by == "site" and drop.attack == "pgd-8"]
    assert [(drop.name, drop.samples, drop.groups) for drop in by_site] == [("", 4, 2), ("North <b>", 2, 1)]
    # Of one patient there is no interval.
    assert by_site[1].drop.low is None


def test_names_are_escaped_on_the_page_and_in_the_card(page: str, report: Report) -> None:
    assert "<script" not in page
    assert "North <b>" not in page
    assert html.escape(HOSTILE) in page
    text = card(report)
    assert "<script>" not in text.replace("\\<", "")
    rows = [line for line in text.splitlines() if line.startswith("|") and "alert" in line]
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in rows}
    assert cells == {8}, "an unescaped bar is a cell more"
    assert escaped("a\nb|c_d") == "a b\\|c\\_d"
    assert escaped("http://b") == "http:\\//b"


def test_nothing_private_is_in_it(corpus: Path, page: str, text: str, report: Report) -> None:
    for written in (page, text, card(report)):
        assert str(corpus) not in written
        assert "labels.csv" not in written
        assert not re.search(r"\bp[012]\b", re.sub(r"base64,[^\"]*", "", written)), "names of patients are secret"


def test_the_table_says_what_ignores_the_image(corpus: Path, report: Report, page: str) -> None:
    baseline = read_manifest(Workspace(corpus)).baseline
    assert baseline is not None
    rows = {row.metric: row.ignoring_image for row in report.results}
    assert rows["AUC"] == baseline.ignoring_image == 0.5
    # Three of six are of either class.
    assert rows["accuracy"] == 0.5
    assert page.index("ignoring the image") < page.index('id="evidence"') < page.index('id="distributions"')
    assert page.index("<img") < page.index("<table"), "the page opens with pictures"


def test_the_verb_prints_it_or_writes_it(corpus: Path, tmp_path: Path, text: str, report: Report) -> None:
    """The same corpus gives the same text."""
    printed = CliRunner().invoke(app, ["report", str(corpus), "--format", "json"])
    assert (printed.exit_code, printed.stdout) == (0, text)
    written = CliRunner().invoke(app, ["report", str(corpus), "--format", "card", "--out", str(tmp_path / "r"), "--json"])
    assert json.loads(written.stdout) == {"report": str(tmp_path / "r"), "bytes": len(card(report).encode())}
    assert (tmp_path / "r").read_text() == card(report)
    assert not (corpus / "report.html").exists()


def test_volumes_are_paged_through_without_scripts(ct_volumes: Path, tmp_path: Path) -> None:
    page = write_report(ct_volumes, tmp_path / "r.html").read_text()
    assert "<script" not in page
    groups = re.findall(r'<input type="radio" name="(slices-[\d-]+)" id="([\w-]+)"( checked)?><label for="([\w-]+)"', page)
    for name in {group for group, *_ in groups}:
        mine = [each for each in groups if each[0] == name]
        # Four slices, all there; one is shown at first; every label leads to its own.
        assert len(mine) == 4
        assert sum(bool(checked) for _, _, checked, _ in mine) == 1
        assert all(identity == target for _, identity, _, target in mine)
    targets, ids = set(re.findall(r'<label for="([\w-]+)"', page)), set(re.findall(r'id="(slice-[\w-]+)"', page))
    assert targets <= ids
    assert "slice 4 of 4" in page


def test_slices_keep_their_budget(ct_volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def size(text: str) -> int:
        return sum(len(uri) for uri in re.findall(r'"(data:image/jpeg[^"]*)"', text))

    whole = size(write_report(ct_volumes, tmp_path / "r.html").read_text())
    others = sum(len(uri) for uri in re.findall(r'"(data:image/png[^"]*)"', (tmp_path / "r.html").read_text()))
    assert 0 < whole + others < pages.PICTURES_BUDGET < 10_000_000
    # The opening is drawn by itself, so that a little less than all of the others counts.
    monkeypatch.setattr(pages, "PICTURES_BUDGET", others + whole // 2)
    assert 0 < size(write_report(ct_volumes, tmp_path / "s.html").read_text()) < whole


def test_a_corpus_without_groups_of_parts_says_so(tiny_corpus: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_corpus, copy)
    report = read_report(copy)
    assert [parting.by for parting in report.population.partings] == ["class"]
    assert any("Each sample is its own group" in text for text in report.limits)
    assert isinstance(report.results[0].clean, Figure)
