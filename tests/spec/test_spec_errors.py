"""A wrong spec gives one clear line and exit code 2, never a traceback."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import CLASSIFIER, draw_pictures, save_victim, tiny_spec
from tests.strategies import JSON

from medadv.cli.app import main
from medadv.common.errors import SpecError
from medadv.spec.reading import parse_spec

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"data__modalty": "fundus"}, "unknown key data.modalty; did you mean modality?"),
    "key of an attack": ({"attacks__pgd-8__epsilonn": 4}, "unknown key attacks.pgd-8.epsilonn; did you mean epsilon?"),
    "negative epsilon": ({"attacks__pgd-8__epsilon": -4}, "attacks.pgd-8.epsilon=-4"),
    "epsilon as a fraction": ({"attacks__pgd-8__epsilon": 4 / 255}, "4/255 is written 4"),
    "epsilon over the range": ({"attacks__pgd-8__epsilon": 300}, "more than the whole range"),
    "hard target with weight 1": (
        {"attacks__smia-8__target": "hard", "attacks__smia-8__stop_gradient": True, "attacks__smia-8__weight": 1},
        "cancels the gradient",
    ),
    "missing label file": ({"data__path": "data/none.csv"}, "no such file"),
    "missing column": ({"data__label": "grades"}, "no column 'grades'; there are file, grade, patient, split"),
    "missing weights": ({"victim__weights": "none.safetensors"}, "victim.weights: no such file"),
    "no weights": ({"victim__weights": None}, "an untrained network is no victim"),
    "unknown network": ({"victim__network": "monai:densenet12"}, "unknown network 'monai:densenet12'"),
    "weights of another network": ({"victim__arguments__growth_rate": 8}, "does not fit monai:densenet121"),
    "channels of another image": ({"victim__normalize": {"mean": [0.5], "std": [0.2]}, "data__modality": "ct"}, "does not take an image"),
    "more classes than outputs": ({"data__label": "many"}, "not one of the network's 2 classes"),
    "code without trust": ({"victim__network": "python:os:getcwd"}, "--trust-code"),
    "code of a second victim without trust": (
        {"second_victim": {"network": "python:os:getcwd", "normalize": {"mean": [0.5] * 3, "std": [0.2] * 3}}},
        "second_victim: victim.network='python:os:getcwd' runs Python code of yours: allow it with --trust-code",
    ),
    "size missing": ({"preprocess__size": None}, "preprocess.size is missing"),
    "HU window for a photograph": ({"victim__normalize": {"window": [0, 1]}}, "HU window"),
    "kernel longer than the image": (
        {"attacks": {"t": {"attack": "tifgsm", "epsilon": 4, "gradient_kernel_size": 71}}},
        "attacks.t.gradient_kernel_size=71 does not fit",
    ),
    "mm for photographs": ({"attacks": {"s": {"attack": "smia", "epsilon": 4, "sigma_unit": "mm"}}}, "photographs have none of"),
    "a loss of masks for classes": ({"attacks__pgd-8__loss": "js"}, "attacks.pgd-8: loss=js is for masks, and data.task is"),
    "an attack on masks for classes": (
        {"attacks": {"s": {"attack": "segpgd", "epsilon": 4}}},
        "attacks.s: segpgd is for masks, and data.task is classification; take pgd",
    ),
    "all there is on masks for classes": ({"attacks": {"s": {"attack": "sea", "epsilon": 4}}}, "attacks.s: sea is for masks"),
    "a loss for what has four": ({"attacks": {"s": {"attack": "sea", "epsilon": 4, "loss": "js"}}}, "four of its own: leave loss out"),
    "looking ahead without momentum": ({"attacks__pgd-8__nesterov": True}, "set momentum: 1 beside it"),
    "a probability over 1": ({"attacks__pgd-8__diversity": 2}, "attacks.pgd-8.diversity=2"),
    "group crosses splits": ({"data__group": "patient", "data__split": {"use": "half"}}, "also stand in other splits"),
    "shard no multiple of batch": ({"execution__shard_size": 5}, "multiple of batch_size"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("errors")
    data = draw_pictures(root / "data", 6)
    rows = (data / "labels.csv").read_text().splitlines()
    # One patient lies in both splits; a column `many` holds a class that the network has no output for.
    head, *body = [row.replace(",test", ",half" if i == 1 else ",test") for i, row in enumerate(rows)]
    (data / "labels.csv").write_text("\n".join([head + ",many", *(f"{row},7" for row in body)]) + "\n")
    save_victim(root / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    return root


@pytest.mark.parametrize("name", CASES)
def test_one_line_and_exit_code_2(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    changes, expected = CASES[name]
    spec = tiny_spec(folder, **changes)
    monkeypatch.setattr(sys, "argv", ["medadv", "plan", str(spec)])
    with pytest.raises(SystemExit) as stopped:
        main()
    errors = capfd.readouterr().err
    assert stopped.value.code == 2
    assert expected in errors
    assert "Traceback" not in errors
    assert len(errors.strip().splitlines()) == 1


def test_not_yaml_and_no_mapping(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for text, expected in ((": : :", "not valid YAML at line 1"), ("- a", "is a mapping with the keys name, data")):
        path = folder / "bad.yaml"
        path.write_text(text)
        monkeypatch.setattr(sys, "argv", ["medadv", "run", str(path)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        assert expected in capfd.readouterr().err


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["name", "data", "preprocess", "victim", "attacks", "execution", "x"]), JSON, max_size=7))
def test_any_mapping_is_a_spec_or_one_line(data: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as refused:
        parse_spec(data, "spec")
    assert "\n" not in str(refused.value)
