"""The report: self-contained, deterministic, and its figures those of the manifest and the shards."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from monai.metrics.rocauc import compute_roc_auc
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec
from torch import from_numpy

from medadv.common.errors import IntegrityError, SpecError
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import SanityReport, read_manifest
from medadv.corpus.quarantine import read_quarantine
from medadv.evidence.verify import verify
from medadv.prepare.request import Options
from medadv.report import checks, words
from medadv.report.columns import read_columns
from medadv.report.estimates import auc, metrics
from medadv.report.page import write_report
from medadv.report.paint import signed
from medadv.report.view import Placing
from medadv.run.extend import extended
from medadv.run.run import run
from medadv.spec.attack import AttackSettings


@pytest.fixture(scope="module")
def page(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(tiny_corpus, tmp_path_factory.mktemp("report") / "report.html").read_text()


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href") and value]
        self.silent += tag == "img" and not values.get("alt")


def test_nothing_is_loaded_from_elsewhere_and_every_picture_has_a_text(page: str) -> None:
    parser = _Links()
    parser.feed(page)
    assert not {"script", "link", "iframe"} & set(parser.tags)
    assert all(link.startswith(("data:image/png;base64,", "data:image/jpeg;base64,", "#")) for link in parser.links)
    assert parser.silent == 0
    assert "url(" not in page


def test_the_same_corpus_gives_the_same_bytes(page: str, tiny_corpus: Path, tmp_path: Path) -> None:
    assert write_report(tiny_corpus, tmp_path / "again.html").read_text() == page


def test_metrics_are_those_of_the_manifest(tiny_corpus: Path) -> None:
    manifest = read_manifest(Workspace(tiny_corpus))
    columns = read_columns(tiny_corpus, manifest)
    for name, recorded in manifest.metrics.items():
        for key, compared in metrics(columns, columns.attacks[name]).items():
            for which, estimate in (("clean", compared.clean), ("adversarial", compared.adversarial)):
                assert estimate.value == pytest.approx(recorded.all[key][which], abs=1e-12)
                assert not estimate.low > estimate.high


def test_the_worst_case_is_the_largest_drop_and_every_case_has_its_command(page: str, tiny_corpus: Path) -> None:
    drops = {}
    for path in sorted((tiny_corpus / "shards").glob("*.h5")):
        with h5py.File(path) as file:
            attack = file["attacks/pgd-8"]
            drops |= dict(zip(file["sample_id"].asstr()[:], attack["score_clean"][:] - attack["score_adversarial"][:], strict=True))
    sheets = page[page.index('id="cases"') : page.index('id="distributions"')]
    shown = re.findall(r"<strong>([^<]+)</strong>: <code>(\w+)</code>", sheets)
    assert shown[0] == ("worst: largest score drop", max(drops, key=lambda key: drops[key]))
    commands = re.findall(r"<pre>medadv reproduce (\S+) --sample (\w+)</pre>", sheets)
    assert [sample for _, sample in commands] == [sample for _, sample in shown]


def test_stored_perturbations_agree_with_the_records(page: str) -> None:
    storage = page[page.index('id="storage"') : page.index('id="quarantine"')]
    rows = re.findall(r"<td>int8</td><td[^>]*>(\d+)</td><td[^>]*>(\d+)</td><td[^>]*>(\d+)</td>", storage)
    assert rows == [("10", "10", "0")] * 2


def test_a_changed_manifest_is_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text((tiny_corpus / "manifest.json").read_text().replace('"samples": 10', '"samples": 11'))
    (tmp_path / "manifest.json.sha256").write_text((tiny_corpus / "manifest.json.sha256").read_text())
    with pytest.raises(IntegrityError, match="differs"):
        write_report(tmp_path)


def test_an_unknown_window_is_quoted(tiny_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--window liver"):
        write_report(tiny_corpus, tmp_path / "x.html", "liver")


def test_auc_is_monais() -> None:
    generator = np.random.default_rng(0)
    truth, score = generator.integers(0, 2, 60), generator.integers(0, 9, 60) / 9
    assert auc(truth == 1, score) == pytest.approx(compute_roc_auc(from_numpy(score), from_numpy(truth)))
    assert np.isnan(auc(np.ones(3, bool), np.ones(3)))


def test_the_signed_map_has_its_ends_and_its_middle() -> None:
    left, middle, right = signed(np.array([[[-4, 0, 4]]]), 4)[0]
    assert (tuple(left), tuple(middle), tuple(right)) == ((33, 102, 172), (255, 255, 255), (179, 88, 6))


def test_boxes_move_with_the_picture() -> None:
    from medadv.datasets.labels import Boxes

    placing = Placing(transpose=True, flip_x=True, flip_y=True, width=10, height=6)
    stored = np.zeros((10, 6), np.uint8)
    stored[2:5, 1:3] = 1
    x0, y0, x1, y1 = placing.boxes(Boxes.of([[2, 1, 5, 3]], [1])).boxes[0].astype(int)
    shown = placing.picture(stored)
    assert shown.shape == (6, 10)
    assert shown[y0:y1, x0:x1].all()
    assert shown.sum() == (y1 - y0) * (x1 - x0)


def test_sanity_checks_are_said_in_words(page: str, tiny_corpus: Path) -> None:
    sanity = read_manifest(Workspace(tiny_corpus)).sanity
    found = {title: (text, expected) for title, text, expected in checks.rows(sanity, "grey levels") or []}
    last = sanity.epsilon_ladder[-1]
    assert found["success at epsilon, grey levels"][0].endswith(f"{last.epsilon:g}: {last.success:.0%}")
    assert all(text in page for text, _ in found.values())
    assert checks.rows(SanityReport(samples=1, sample_ids=[], warnings=["weak"], new_check={"some_share": 0.25}), "HU") == [
        ("new check", "some share 0.25", ""),
        ("warning", "weak", ""),
    ]
    assert checks.rows(None, "HU") is None


def test_it_prints_and_every_figure_has_words(page: str) -> None:
    assert "@media print" in page
    assert all('role="img"' in tag and "aria-label" in tag for tag in re.findall(r"<svg[^>]*>", page))
    assert all(re.search(r'scope="(col|row|rowgroup)"', tag) for tag in re.findall(r"<th(?:\s[^>]*)?>", page))


def test_methods_tell_every_part_of_an_attack_and_its_sources() -> None:
    settings = AttackSettings.model_validate({"attack": "smia-mi-ti", "epsilon": 4})
    text = words.in_short(settings, "grey levels", "classification")
    assert text == (
        "smia-mi-ti, epsilon 4 grey levels, step 2, 10 steps, random start, momentum 1, gradients smoothed with a Gaussian of 1 voxels, "
        "loss stabilization of weight 0.5 with a Gaussian of 1.5 voxel, gradient through both branches"
    )
    cited = "\n".join(words.citations({"a": settings}))
    assert all(number in cited for number in ("2103.05232", "1710.06081", "1904.02884"))


@pytest.mark.parametrize(
    ("changes", "told", "cited"),
    [
        ({"attack": "nifgsm"}, "step 1, 10 steps, Nesterov momentum 1", "1908.06281"),
        ({"attack": "difgsm"}, "10 steps, input diversity with probability 0.5", "1803.06978"),
        ({"attack": "segpgd"}, "10 steps, random start, best iterate kept", "2207.12391"),
        ({"attack": "cospgd"}, "10 steps, random start, best iterate kept", "2302.02213"),
        ({"attack": "sea"}, "step 8, 100 steps on each of four losses, random start, best iterate kept", "2306.12941"),
        ({"attack": "pgd", "loss": "js"}, "10 steps, random start, loss js", "1706.06083"),
    ],
)
def test_methods_of_later_attacks(changes: dict[str, str], told: str, cited: str) -> None:
    settings = AttackSettings.model_validate({"epsilon": 4, **changes})
    assert words.in_short(settings, "HU", "segmentation").endswith(told)
    assert cited in "\n".join(words.citations({"a": settings}))


@pytest.mark.usefixtures("inline")
def test_a_sample_lost_while_its_shard_was_made_is_in_the_report(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 3)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    lost = tmp_path / "data" / "001.png"
    spec, whole = tiny_spec(tmp_path, sanity_samples=0), lost.read_bytes()

    def damaged(*arguments: Any) -> Any:
        plans = extended(*arguments)
        lost.write_bytes(whole[:-20])
        return plans

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medadv.run.run.extended", damaged)
        result = run(spec, Options(), quiet)
    assert (result.exit_code, result.manifest.samples, result.manifest.quarantined) == (3, 2, 1)
    (record,) = read_quarantine(Workspace(result.corpus))
    assert record.source is None
    page = write_report(result.corpus).read_text()
    assert f"<code>{record.sample}</code></td><td>{record.code}</td>" in page
    assert verify(result.corpus) == []
