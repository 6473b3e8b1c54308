"""Attacks that are called like something else: refused in a new plan, told apart in an old one, and no file is written twice."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from monai.transforms import LoadImage
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec
from tests.export.export_cases import ct_spec, nifti_corpus

from medadv.common.errors import SpecError
from medadv.compare.compare import compare
from medadv.evidence.reproduce import reproduce
from medadv.evidence.verify import verify
from medadv.export.export import Request, export
from medadv.export.names import refuse_repeats
from medadv.prepare import prepare
from medadv.prepare.request import Options
from medadv.run.run import run
from medadv.spec.base import RESERVED
from medadv.store.reader import open_shard
from medadv.training.dataset import CorpusDataset
from medadv.training.monai_reader import CorpusReader, datalist

pytestmark = [pytest.mark.usefixtures("inline"), pytest.mark.filterwarnings("ignore:NvImgCodec")]
PGD = {"attack": "pgd", "epsilon": 8, "steps": 1}


def rename_attacks(spec: Path, names: tuple[str, ...]) -> Path:
    content = yaml.safe_load(spec.read_text())
    content["attacks"] = {name: {**PGD, "epsilon": 8 + index} for index, name in enumerate(names)}
    spec.write_text(yaml.safe_dump(content))
    return spec


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slices with masks in a corpus of the time when every name was taken: attacks `label`, `region`, `clean` and `image`."""
    nifti_corpus(tmp_path, 2)
    shutil.rmtree(tmp_path / "corpus")
    spec = rename_attacks(ct_spec(tmp_path, 2, {"layout": "decathlon", "path": "data/dataset.json"}), RESERVED)
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "refuse_reserved", lambda names: None)
        return run(spec, Options(), quiet).corpus


@pytest.mark.parametrize("name", RESERVED)
def test_a_new_plan_refuses_names_that_mean_something_else(name: str, tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 2)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec = tiny_spec(tmp_path, attacks={"pgd": PGD, name: PGD})
    for verb in (lambda: run(spec, Options(), quiet), lambda: compare(spec, None, 2, [], False, quiet)):
        with pytest.raises(SpecError, match=rf"attacks\.{name}: image, label, region, clean mean other things.*such as {name}-attack"):
            verb()
    assert not (tmp_path / "corpus").exists()


def test_a_corpus_that_has_them_verifies_reproduces_and_resumes(older: Path) -> None:
    assert verify(older) == []
    found = reproduce(older, None)
    assert found.equal
    assert len(found.results) == 8 * len(RESERVED)
    for suffix in (".json", ".h5"):
        (older / "shards" / "shard-00001").with_suffix(suffix).unlink()
    result = run(older.parent / "spec.yaml", Options(), quiet)
    assert (result.new_shards, result.manifest.samples) == (1, 8)
    assert list(result.manifest.attacks) == sorted(RESERVED)
    assert verify(older) == []


def test_the_reader_tells_of_names_that_mean_two_things(older: Path) -> None:
    dataset = CorpusDataset(older, "label")
    item = dataset[0]
    shard = dataset.paths[0]
    load = LoadImage(reader=CorpusReader, ensure_channel_first=True)
    for name in (f"#/{item['sample_id']}_{{}}.h5", f"#{item['sample_id']}/{{}}"):
        for word in ("label", "region"):
            with pytest.raises(ValueError, match=f"an attack called '{word}', so the name means two things: CorpusDataset reads both"):
                load(f"{shard}{name.format(word)}")
        assert np.array_equal(load(f"{shard}{name.format('image')}").shape, item["image"].shape)
    with pytest.raises(ValueError, match="an attack called 'clean'"):
        load(datalist(older, "image")[0]["image"])
    # The short names of the clean image and of an attack `clean` mean one thing each.
    with open_shard(shard) as file:
        image, delta = (file[name][0] for name in ("image", "attacks/clean/perturbation"))
    assert np.array_equal(load(f"{shard}#{item['sample_id']}").numpy(), image)
    assert np.array_equal(load(f"{shard}#{item['sample_id']}/clean").numpy(), image + delta)
    assert np.array_equal((item["adversarial"] - item["image"]).numpy(), open_perturbation(shard, "label"))


def open_perturbation(shard: Path, attack: str) -> np.ndarray:
    with open_shard(shard) as file:
        return np.asarray(file[f"attacks/{attack}/perturbation"][0])


@pytest.mark.parametrize(("kind", "attack", "clean"), [("nifti", "label", False), ("nifti", "clean", True), ("dicom", "clean", True)])
def test_an_export_that_would_write_a_file_twice_writes_none(older: Path, kind: str, attack: str, clean: bool, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=rf"_{attack}\S* would be written twice, so nothing was written"):
        export(older, Request(kind, tmp_path / "out", attack, clean=clean), quiet)
    assert not (tmp_path / "out").exists()


def test_an_export_under_such_a_name_is_whole_where_nothing_meets(older: Path, tmp_path: Path) -> None:
    summary = export(older, Request("nifti", tmp_path / "out", "clean"), quiet)
    assert summary.files == len(list((tmp_path / "out").iterdir())) == 2 * 8 + 1


def test_a_sample_that_stands_twice_is_not_written_twice(tiny_corpus: Path, tmp_path: Path) -> None:
    corpus = Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))
    manifest = json.loads((corpus / "manifest.json").read_text())
    manifest["shards"].append(manifest["shards"][0])
    (corpus / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SpecError, match="would be written twice"):
        export(corpus, Request("png", tmp_path / "out"), quiet)
    assert not (tmp_path / "out").exists()


def test_names_that_differ_in_case_alone_meet_on_many_file_systems() -> None:
    refuse_repeats(["a_pgd.png", "a_clean.png"])
    with pytest.raises(SpecError, match=r"a_Clean\.png would be written twice"):
        refuse_repeats(["a_clean.png", "a_Clean.png"])
