"""A bundle is a victim in one line; what is published of it names no folder, and code that builds a network is part of who it is."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import quiet
from tests.run.test_tasks import chest, segmentation_spec
from tests.victims import small_bundles as small
from tests.victims.bundle_reference import write_weights

from medadv.common.errors import SpecError
from medadv.common.hashing import hash_file
from medadv.evidence.reproduce import reproduce
from medadv.evidence.verify import verify
from medadv.plan.frozen import generations
from medadv.prepare.request import Options
from medadv.run.run import run

pytestmark = [pytest.mark.usefixtures("inline"), pytest.mark.filterwarnings("ignore")]
TRUSTED = Options(trust_code=True)


def spec_for(folder: Path, config: small.Config, **victim: Any) -> Path:
    """A bundle, two volumes on a grid that it does not resample, and a spec that says little more than where both are."""
    chest(folder / "data", (32, 32, 8))
    small.write_bundle(folder / "bundle", config)
    write_weights(folder / "bundle", "inference.json")
    path = segmentation_spec(folder, 3)
    spec = yaml.safe_load(path.read_text())
    spec["data"] = {"layout": "decathlon", "path": "data/dataset.json"}
    spec["victim"] = {"bundle": "bundle", **victim}
    spec["attacks"] = {"pgd-30": {"attack": "pgd", "epsilon": 30, "step": 15, "steps": 2}}
    path.write_text(yaml.safe_dump(spec))
    return path


def stranger(corpus: Path) -> Path:
    """The corpus as it is published."""
    copy = corpus.parent / "published"
    shutil.copytree(corpus, copy, ignore=shutil.ignore_patterns(".medadv"))
    return copy


def test_a_bundle_is_all_that_a_spec_says_of_the_victim(tmp_path: Path) -> None:
    spec = spec_for(tmp_path, small.spleen(), overlap=0.25)
    result = run(spec, Options(), quiet)
    assert result.exit_code == 0
    assert verify(result.corpus) == []
    victim = json.loads((result.corpus / "manifest.json").read_text())["victim"]
    assert victim["network"] == "monai:UNet"
    assert victim["normalize"] == [{"scale": [-57.0, 164.0, 0.0, 1.0], "clip": True}]
    assert (victim["window"], victim["overlap"], victim["window_batch"]) == ([16, 16, 16], 0.25, 4)
    assert victim["weights_sha256"] == hash_file(tmp_path / "bundle" / "models" / "model.pt")
    assert not {"bundle", "code", "code_sha256", "weights"} & victim.keys()
    assert str(tmp_path) not in (result.corpus / "manifest.json").read_text()
    assert (result.manifest.data.modality, result.manifest.data.label_map) == ("ct", {"organ": [1]})
    assert result.manifest.preprocess.spacing == (1.5, 1.5, 2.0)
    weights = shutil.move(tmp_path / "bundle" / "models" / "model.pt", tmp_path / "weights.pt")
    shutil.rmtree(tmp_path / "bundle")
    assert reproduce(stranger(result.corpus), None, weights=[weights]).equal


def test_code_that_builds_a_network_is_part_of_the_victim(tmp_path: Path) -> None:
    spec = spec_for(tmp_path, small.own_network())
    with pytest.raises(SpecError, match="allow running it with --trust-code"):
        run(spec, Options(), quiet)
    result = run(spec, TRUSTED, quiet)
    facts = result.manifest.victim
    assert facts.network == "python:scripts.networks.small:Small"
    assert facts.code_sha256 is not None
    assert run(spec, TRUSTED, quiet).new_shards == 0
    copy, weights = stranger(result.corpus), [tmp_path / "bundle" / "models" / "model.pt"]
    code = Path(shutil.copytree(tmp_path / "bundle", tmp_path / "code"))
    assert reproduce(copy, None, weights=weights, code=code, trust_code=True).equal

    # A file that it imports from beside it, and one that it does not.
    (tmp_path / "bundle" / "scripts" / "transforms.py").write_text("# changed\n")
    assert run(spec, TRUSTED, quiet).new_shards == 0
    for folder in (tmp_path / "bundle", code):
        (folder / "scripts" / "networks" / "blocks.py").write_text(small.SCRIPTS["networks/blocks.py"].replace("ReLU", "GELU"))
    with pytest.raises(SpecError, match=r'made with other settings: victim\.code_sha256: "[0-9a-f]{64}" -> "[0-9a-f]{64}"\. Make'):
        run(spec, TRUSTED, quiet)
    with pytest.raises(SpecError, match=r"code of python:scripts\.networks\.small:Small is other .* give --code DIR"):
        reproduce(copy, None, weights=weights, code=code, trust_code=True)


def test_a_corpus_that_was_begun_before_code_was_hashed_goes_on(tmp_path: Path) -> None:
    spec = spec_for(tmp_path, small.own_network())
    result = run(spec, TRUSTED, quiet)
    (plan,) = (result.corpus / ".medadv" / "plans").iterdir()
    head = json.loads((plan / "plan.json").read_text())
    del head["settings"]["victim"]["code_sha256"]
    (plan / "plan.json").write_text(json.dumps(head))
    assert generations(plan.parent)[0].settings.victim.code_sha256 is None
    from medadv.corpus.folder import Workspace
    from medadv.prepare.prepare import prepare
    from medadv.victims.importers.resolve import read_spec

    asked, _ = read_spec(spec, trust_code=True)
    prepared = prepare(asked, spec.parent, Workspace(result.corpus), TRUSTED, quiet, measure=False)
    assert prepared.new == []
