"""From spec to corpus: what is stored is what was meant, and what an independent pass over it says."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec

from medadv.common.errors import SpecError
from medadv.evidence.verify import verify
from medadv.prepare.request import Options
from medadv.run import shard
from medadv.run.run import run
from medadv.victims.sources.registry import build_network


def prepared(folder: Path, count: int = 6, **changes: object) -> Path:
    draw_pictures(folder / "data", count)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    return tiny_spec(folder, **changes)


def test_stored_perturbations_keep_their_bounds_and_verify(tiny_corpus: Path) -> None:
    manifest = json.loads((tiny_corpus / "manifest.json").read_text())
    assert manifest["samples"] == 10
    assert manifest["run"]["status"] == "complete"
    assert manifest["determinism"]["level"] == "bitwise"
    for entry in manifest["shards"]:
        with h5py.File(tiny_corpus / entry["path"]) as file:
            image = file["image"][...].astype(int)
            for name, settings in manifest["attacks"].items():
                delta = file[f"attacks/{name}/perturbation"][...].astype(int)
                assert np.abs(delta).max() <= settings["epsilon"]
                assert (image + delta).min() >= 0
                assert (image + delta).max() <= 255
                assert np.abs(delta).max() > 0
    assert verify(tiny_corpus) == []


def test_stored_success_is_what_an_independent_pass_over_the_stored_sample_says(tiny_corpus: Path) -> None:
    """Reads with plain h5py and builds the network itself; nothing of the scoring code is used."""
    network = build_network("monai:densenet121", CLASSIFIER).eval()
    network.load_state_dict(load_file(tiny_corpus.parent / "victim.safetensors"))
    checked = flipped = 0
    for path in sorted((tiny_corpus / "shards").glob("*.h5")):
        with h5py.File(path) as file, torch.no_grad():
            image = torch.from_numpy(file["image"][...]).float()
            truth = file["label"][...]
            for group in file["attacks"].values():
                adversarial = image + torch.from_numpy(group["perturbation"][...]).float()
                clean, after = (network((x / 255 - 0.5) / 0.25) for x in (image, adversarial))
                success = (clean.argmax(1) != after.argmax(1)).numpy()
                assert (group["success"][...].astype(bool) == success).all()
                expected = after.double().softmax(1).numpy()[np.arange(len(truth)), truth]
                np.testing.assert_allclose(group["score_adversarial"][...], expected, atol=1e-5)
                checked, flipped = checked + len(truth), flipped + int(success.sum())
    assert checked == 20
    assert flipped > 0


def test_workers_and_order_do_not_change_the_content(tiny_corpus: Path, tmp_path: Path) -> None:
    """Two workers, and the same pictures under other names in another order."""
    expected = json.loads((tiny_corpus / "manifest.json").read_text())["content_root"]
    draw_pictures(tmp_path / "data", 10)
    rows = (tmp_path / "data" / "labels.csv").read_text().splitlines()
    for index in range(10):
        (tmp_path / "data" / f"{index:03d}.png").rename(tmp_path / "data" / f"x{9 - index}.png")
    renamed = [f"x{9 - int(row[:3])}.png{row[7:]}" for row in rows[1:]]
    (tmp_path / "data" / "labels.csv").write_text("\n".join([rows[0], *reversed(renamed)]))
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    result = run(tiny_spec(tmp_path, execution__workers=2), Options(), quiet)
    assert result.manifest.content_root == expected


@pytest.mark.usefixtures("inline")
def test_dask_and_a_plain_loop_give_the_same_content(tiny_corpus: Path, tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 10)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    result = run(tiny_spec(tmp_path), Options(), quiet)
    assert result.manifest.content_root == json.loads((tiny_corpus / "manifest.json").read_text())["content_root"]


def test_a_second_run_finds_nothing_new(tiny_corpus: Path) -> None:
    before = (tiny_corpus / "manifest.json").read_bytes()
    result = run(tiny_corpus.parent / "spec.yaml", Options(), quiet)
    assert (result.exit_code, result.new_shards) == (0, 0)
    assert (tiny_corpus / "manifest.json").read_bytes() == before


def test_changed_settings_are_refused_with_the_difference(tiny_corpus: Path) -> None:
    with pytest.raises(SpecError, match=r"attacks.pgd-8.epsilon: 8.0 -> 9.*--out"):
        run(tiny_corpus.parent / "spec.yaml", Options(overrides=["attacks.pgd-8.epsilon=9"]), quiet)


def test_one_changed_byte_is_found_with_shard_and_sample(tiny_corpus: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(tiny_corpus, corpus)
    path = sorted((corpus / "shards").glob("*.h5"))[0]
    with h5py.File(path) as file:
        dataset = file["attacks/pgd-8/perturbation"]
        sample = file["sample_id"][1].decode()
        chunk = dataset.id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(content)
    problems = verify(corpus)
    assert any(path.name in p and sample in p and "attacks/pgd-8/perturbation" in p for p in problems), problems


@pytest.mark.usefixtures("inline")
def test_unreadable_inputs_are_quarantined_and_the_rest_is_made(tmp_path: Path) -> None:
    spec = prepared(tmp_path, 7)
    data = tmp_path / "data"
    (data / "001.png").write_bytes(b"not a picture")
    (data / "002.png").write_bytes((data / "003.png").read_bytes())  # same content, other label
    (data / "004.png").unlink()
    result = run(spec, Options(), quiet)
    assert result.exit_code == 3
    records = [json.loads(line) for line in (result.corpus / "quarantine.jsonl").read_text().splitlines()]
    assert sorted(r["code"] for r in records) == ["duplicate-conflict", "duplicate-conflict", "not-found", "unsupported-format"]
    assert result.manifest.samples == 3
    assert verify(result.corpus) == []
    published = b"".join(p.read_bytes() for p in result.corpus.rglob("*") if p.is_file() and ".medadv" not in p.parts)
    assert b"001.png" not in published
    assert run(spec, Options(), quiet).exit_code == 0  # nothing new


@pytest.mark.usefixtures("inline")
def test_damaged_after_planning_leaves_its_place_empty(tmp_path: Path) -> None:
    """The batch is not refilled: its other samples get the bits they would have had, up to the batch's composition in the plan."""
    spec = prepared(tmp_path, 6)
    data = tmp_path / "data"
    with Image.open(data / "002.png") as picture:
        picture.save(data / "002.bmp")
    # Header whole, pixels cut short: planning reads headers only and cannot see it. The content says BMP, whatever the name.
    (data / "002.png").write_bytes((data / "002.bmp").read_bytes()[:-500])
    result = run(spec, Options(), quiet)
    assert result.exit_code == 3
    receipts = [json.loads(path.read_text()) for path in (result.corpus / "shards").glob("*.json")]
    places = [place for receipt in receipts for batch in receipt["batches"] for place in batch]
    assert places.count(None) == 1
    assert len(places) == 6
    assert result.manifest.samples == 5
    assert verify(result.corpus) == []


@pytest.mark.usefixtures("inline")
def test_a_corpus_made_with_helpers_is_the_same_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_pictures(tmp_path / "data", 9)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec = tiny_spec(tmp_path)
    before = run(spec, Options(), quiet)
    monkeypatch.setattr(shard, "helpers", lambda _: 4)
    after = run(spec, Options(out=tmp_path / "other"), quiet)
    assert before.manifest.content_root == after.manifest.content_root
    assert len(before.manifest.shards) == 3
