"""The field of view of a fundus photograph: the disc, its crop, shadows at its rim, and what is drawn beside it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tests.transforms.pictures import save

from medadv_transforms import InputError, read_colour


def fundus_phantom(scale: float = 1.0, cut: int = 0) -> tuple[np.ndarray, tuple[float, float, float]]:
    """A bright disc on a dark ground with a dark blot inside, and its centre and radius; `cut` rows are black above and below."""
    height, width, radius = round(300 * scale), round(440 * scale), 140 * scale
    y, x = np.mgrid[:height, :width] + 0.5
    centre = (height / 2, width / 2 + 10 * scale)
    inside = np.hypot(y - centre[0], x - centre[1]) <= radius
    if cut:
        inside[:cut] = inside[-cut:] = False
    pixels = np.where(inside[..., None], np.array([190, 90, 30]), 3).astype(np.uint8)
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).ellipse([150 * scale, 100 * scale, 180 * scale, 130 * scale], fill=(5, 2, 2))
    return np.asarray(image), (*centre, radius)


@pytest.mark.parametrize("scale", [0.7, 1.0, 4.3])
@pytest.mark.parametrize("cut", [0, 40])
def test_the_field_of_view_is_the_disc(tmp_path: Path, scale: float, cut: int) -> None:
    pixels, (y, x, radius) = fundus_phantom(scale, round(cut * scale))
    path = save(tmp_path / "a.png", pixels)
    loaded = read_colour(path, modality="fundus", crop=True, restrict_to_field=True)
    assert loaded.placement is not None
    assert loaded.region is not None
    top, left, height, width = loaded.placement.crop
    tolerance = 2 * max(1, round(scale * 440 / 384)) + 1
    vertical = min(radius, y - round(cut * scale))
    assert abs(top - (y - vertical)) <= tolerance
    assert abs(left - (x - radius)) <= tolerance
    assert abs(height - 2 * vertical) <= 2 * tolerance
    assert abs(width - 2 * radius) <= 2 * tolerance
    rows, columns = np.mgrid[:height, :width] + 0.5
    disc = np.hypot(rows + top - y, columns + left - x) <= radius
    if not cut:
        assert (loaded.region ^ disc).mean() < 0.02
    # The blot inside is part of the field.
    assert loaded.region[round(115 * scale) - top, round(165 * scale) - left]


def test_the_crop_of_a_reduced_decoding_is_in_source_pixels(tmp_path: Path) -> None:
    pixels, (y, x, radius) = fundus_phantom(6.1)
    path = save(tmp_path / "a.jpg", pixels, quality=90)
    loaded = read_colour(path, modality="fundus", size=(64, 64), crop=True)
    assert loaded.facts["decoded_at"] == "1/8"
    assert loaded.placement is not None
    np.testing.assert_allclose(loaded.placement.crop, [y - radius, x - radius, 2 * radius, 2 * radius], atol=34)
    # The disc fills the square: its edges' middles are bright, the corners dark.
    assert loaded.image[0, 32, [2, 61]].min() > 120
    assert loaded.image[0, [0, 0, 63, 63], [0, 63, 0, 63]].max() < 60


def test_a_shadow_at_the_rim_belongs_to_the_disc(tmp_path: Path) -> None:
    pixels, (y, x, radius) = fundus_phantom()
    bitten = pixels.copy()
    bitten[round(y) - 12 : round(y) + 12, round(x + radius) - 20 :] = 2
    loaded = read_colour(save(tmp_path / "a.png", bitten), modality="fundus", restrict_to_field=True)
    assert loaded.facts["field_of_view"] == {"shape": "disc"}
    assert loaded.region is not None
    assert loaded.region[round(y), round(x + radius) - 18 : round(x + radius) - 4].all()


def test_no_field_of_view(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.zeros((100, 120, 3), np.uint8))
    with pytest.raises(InputError, match="no-field-of-view"):
        read_colour(path, modality="fundus", crop=True)
    bright = save(tmp_path / "b.png", np.full((100, 120, 3), 90, np.uint8))
    loaded = read_colour(bright, modality="fundus", crop=True, restrict_to_field=True)
    assert loaded.image.shape == (3, 100, 120)
    assert loaded.region is not None
    assert loaded.region.all()


def test_text_and_insets_are_excluded_but_not_highlights(tmp_path: Path) -> None:
    image = Image.new("RGB", (620, 530), (150, 70, 60))
    draw = ImageDraw.Draw(image)
    draw.text((20, 60), "27/04/2011", fill="white", font_size=14)
    draw.text((20, 80), "14:52:07", fill="white", font_size=14)
    draw.rectangle([0, 430, 120, 529], fill=(0, 180, 140))
    for number in range(6):
        draw.ellipse([300 + 37 * number, 200 + 23 * (number % 3), 304 + 40 * number, 208 + 29 * (number % 3)], fill="white")
    loaded = read_colour(save(tmp_path / "a.png", np.asarray(image)), modality="endoscopy", exclude_overlay=True)
    assert loaded.region is not None
    text = np.asarray(image)[..., 2] == 255
    assert not loaded.region[55:100, :150][text[55:100, :150]].any()
    assert not loaded.region[435:, :118].any()
    assert loaded.region[150:400, 250:].all()
    assert loaded.region.mean() > 0.9
