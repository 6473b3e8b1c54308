"""What `medadv plan --freeze` says of what it froze."""

import json
from pathlib import Path

import pytest
from tests.conftest import CLASSIFIER, draw_pictures, save_victim, tiny_spec

from medadv.cli.app import app


def test_what_was_frozen_is_said_and_is_new_no_more_afterwards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_pictures(tmp_path / "data", 6)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec = str(tiny_spec(tmp_path))

    def planned(*options: str) -> dict[str, int]:
        app(["plan", spec, "--json", *options], standalone_mode=False)
        return json.loads(capsys.readouterr().out)

    def counts(facts: dict[str, int]) -> list[int | None]:
        return [facts.get(key) for key in ("new_samples", "new_shards", "shards_to_make", "frozen_samples", "frozen_shards")]

    first = planned()
    assert counts(first) == [6, 2, 2, None, None]
    frozen = planned("--freeze")
    assert counts(frozen) == [6, 2, 2, 6, 2]
    assert frozen["bytes_before_compression"] == first["bytes_before_compression"] > 0
    assert counts(planned()) == [0, 0, 2, None, None]
    # What comes later is frozen by itself.
    draw_pictures(tmp_path / "data", 8)
    assert counts(planned("--freeze")) == [2, 1, 3, 2, 1]
    assert counts(planned("--freeze")) == [0, 0, 3, 0, 0]
