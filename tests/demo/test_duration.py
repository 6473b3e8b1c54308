"""How long the demo says that it will take: what was timed times what is left to do, on as many cores as there are."""

import dataclasses

import pytest

from medadv.demo import duration
from medadv.demo.duration import Pace, pace, seconds_needed
from medadv.demo.phantoms import COUNTS
from medadv.demo.specs import PARTS


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """One second a drawing, a tenth a step, and corpora that cost nothing."""
    monkeypatch.setattr(duration, "pace", lambda part: Pace(1.0, 0.1, {"ct": 12, "fundus": 2, "endoscopy": 4}[part.name]))
    for name in ("STEPS_PER_IMAGE", "DRAWINGS_PER_CORPUS"):
        monkeypatch.setattr(duration, name, 0.0)


@pytest.mark.usefixtures("known")
def test_drawing_and_training_add_up_and_are_shared_by_two_processes() -> None:
    alone = {part.name: seconds_needed([part], PARTS, 1) for part in PARTS}
    for part in PARTS:
        train, test = COUNTS[part.name]
        steps = part.recipe.epochs * (train * {"ct": 12, "fundus": 2, "endoscopy": 4}[part.name] // part.recipe.batch)
        assert alone[part.name] == pytest.approx(train + test + steps / 10)
    assert seconds_needed(PARTS, PARTS, 1) == pytest.approx(sum(alone.values()))
    assert seconds_needed(PARTS, PARTS, 2) == pytest.approx(max(*alone.values(), sum(alone.values()) / 2))
    # What there is already costs nothing.
    assert seconds_needed([], PARTS, 2) == 0


@pytest.mark.usefixtures("known")
def test_corpora_cost_by_their_images_and_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duration, "DRAWINGS_PER_CORPUS", 7.0)
    assert seconds_needed([], PARTS, 2) == pytest.approx(3 * 7)
    monkeypatch.setattr(duration, "DRAWINGS_PER_CORPUS", 0.0)
    monkeypatch.setattr(duration, "STEPS_PER_IMAGE", 50.0)
    images = {"ct": 36, "fundus": 32, "endoscopy": 32}
    one = sum(50 * images[part.name] * 0.1 / part.recipe.batch for part in PARTS)
    assert (seconds_needed([], PARTS, 1), seconds_needed([], PARTS, 2)) == (pytest.approx(one), pytest.approx(one / 2))


def test_what_is_timed_is_a_drawing_and_a_step_of_training() -> None:
    part = next(part for part in PARTS if part.name == "fundus")
    small = dataclasses.replace(part, recipe=dataclasses.replace(part.recipe, batch=2))
    found = pace(small)
    assert found.images == 2
    assert 0 < found.step < 5
    assert 0 < found.drawing < 20
