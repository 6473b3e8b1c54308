"""Mask pictures: what their levels mean, and what is refused because it means nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medadv_transforms import InputError, LoadedImage, read_colour, read_mask
from medadv_transforms.mask_pictures import read_levels, soft_edges

SIZE = (24, 32)


@pytest.fixture
def image(tmp_path: Path) -> LoadedImage:
    Image.new("RGB", SIZE[::-1], (90, 60, 40)).save(tmp_path / "image.png")
    return read_colour(tmp_path / "image.png", modality="fundus")


def drawn(**boxes: Any) -> np.ndarray:
    """(h, w) uint8: level -> (rows, columns) slices given as `_7=(slice, slice)`."""
    levels = np.zeros(SIZE, np.uint8)
    for level, place in boxes.items():
        levels[place] = int(level[1:])
    return levels


A, B, C = (slice(2, 10), slice(3, 12)), (slice(12, 20), slice(3, 12)), (slice(2, 20), slice(16, 30))


def saved(path: Path, levels: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    picture = Image.fromarray(levels)
    (picture if mode is None else picture.convert(mode)).save(path, **options)
    return path


def test_a_dark_jpeg_is_no_empty_mask(tmp_path: Path, image: LoadedImage) -> None:
    dark = saved(tmp_path / "dark.jpg", drawn(_1=A, _2=C))
    with pytest.raises(InputError, match="label-values"):
        read_mask([dark], image)
    assert not read_mask([saved(tmp_path / "black.jpg", drawn())], image)[0].any()
    bright, _ = read_mask([saved(tmp_path / "bright.jpg", drawn(_255=C), quality=95)], image)
    assert (bright[C] == 1).mean() > 0.95
    # Whoever names a threshold knows what lies below it.
    assert read_mask([dark], image, threshold=0)[0].any()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_opaque_alpha_is_dropped_and_any_other_refused(tmp_path: Path, image: LoadedImage, mode: str) -> None:
    levels = drawn(_1=A, _2=C)
    opaque = saved(tmp_path / "a.png", levels, mode)
    np.testing.assert_array_equal(read_mask([opaque], image)[0], levels)
    clear = Image.fromarray(levels).convert(mode)
    clear.putalpha(Image.fromarray(np.where(levels > 0, 255, 0).astype(np.uint8)))
    clear.save(tmp_path / "b.png")
    with pytest.raises(InputError, match="has-transparency"):
        read_mask([tmp_path / "b.png"], image)


def test_a_palette_gives_its_indices_whatever_it_shows(tmp_path: Path, image: LoadedImage) -> None:
    levels = drawn(_1=A, _2=C)
    indexed = Image.frombytes("P", SIZE[::-1], levels.tobytes())
    indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    indexed.save(tmp_path / "p.png", transparency=0)
    np.testing.assert_array_equal(read_mask([tmp_path / "p.png"], image)[0], levels)


def test_255_is_what_the_data_set_says(tmp_path: Path, image: LoadedImage) -> None:
    path = saved(tmp_path / "m.png", drawn(_255=A))
    for white, expected in ((None, 1), (1, 1), (255, 255)):
        mask, _ = read_mask([path], image, white=white)
        assert (np.unique(mask).tolist(), (mask[A] == expected).all()) == ([0, expected], True)
    beside = saved(tmp_path / "n.png", drawn(_1=B, _255=A))
    np.testing.assert_array_equal(read_mask([beside], image)[0], drawn(_1=B, _255=A))


def test_a_label_map_names_background_and_leaves_255_ignored(tmp_path: Path, image: LoadedImage) -> None:
    path = saved(tmp_path / "m.png", drawn(_3=A, _7=B, _255=C))
    mask, _ = read_mask([path], image, {"background": [7], "lesion": [3]})
    np.testing.assert_array_equal(mask, drawn(_1=A, _255=C))
    planes, _ = read_mask([path], image, {"background": [7], "lesion": [3], "all": [3, 7]}, multilabel=True)
    np.testing.assert_array_equal(planes, [drawn(_1=A, _255=C), np.where(drawn(_1=A, _7=B) > 0, 1, drawn(_255=C))])
    named, _ = read_mask([path], image, {"lesion": [255]})
    np.testing.assert_array_equal(named, drawn(_1=C))


def test_a_jpeg_and_a_label_map_that_names_neither_side(tmp_path: Path, image: LoadedImage) -> None:
    path = saved(tmp_path / "m.jpg", drawn(_255=C), quality=95)
    for value in (255, 1):
        assert read_mask([path], image, {"lesion": [value]})[0][C].mean() > 0.9
    with pytest.raises(InputError, match="label-values"):
        read_mask([path], image, {"lesion": [2]})


def test_soft_edges_are_counted(tmp_path: Path) -> None:
    levels = drawn(_255=C)
    levels[0, :5] = [3, 80, 80, 160, 254]
    found = read_levels(saved(tmp_path / "m.png", levels))
    assert soft_edges(found, [0, 1]) is not None
    assert ": 4 in 5 pixels" in str(soft_edges(found, [0, 1]))
    assert soft_edges(found, [0, 3, 80, 160, 254]) is None
    cut = read_levels(tmp_path / "m.png", threshold=100)
    assert (cut.binary, int(cut.values.sum()), soft_edges(cut, [0])) == (True, int((levels > 100).sum()), None)


def test_one_file_a_class(tmp_path: Path, image: LoadedImage) -> None:
    first, second = saved(tmp_path / "a.png", drawn(_255=A)), saved(tmp_path / "b.png", drawn(_1=C))
    np.testing.assert_array_equal(read_mask([first, second], image, white=1)[0], drawn(_1=A, _2=C))
    over = saved(tmp_path / "c.png", drawn(_1=(slice(4, 8), slice(5, 20))))
    with pytest.raises(InputError, match="label-overlap"):
        read_mask([first, over], image, white=1)
    planes, _ = read_mask([first, over], image, white=1, multilabel=True)
    np.testing.assert_array_equal(planes, [drawn(_1=A), drawn(_1=(slice(4, 8), slice(5, 20)))])
    # What one file ignores is ignored unless another one knows better.
    ignored, _ = read_mask([second, first], image, white=255)
    np.testing.assert_array_equal(ignored, drawn(_1=C, _255=A))
    with pytest.raises(InputError, match="label-values"):
        read_mask([first, saved(tmp_path / "d.png", drawn(_2=C))], image, white=1)


def test_a_mask_turned_on_its_side_says_so(tmp_path: Path, image: LoadedImage) -> None:
    with pytest.raises(InputError, match="EXIF"):
        read_mask([saved(tmp_path / "m.png", drawn(_1=A).T.copy())], image)
