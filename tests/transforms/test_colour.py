"""Photographs: decoded as Pillow does, upright, placed exactly, or refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from tests.transforms.pictures import code_of, gradient, save

from medadv_transforms import InputError, Placement, read_colour, read_mask


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp"])
def test_lossless_formats_keep_every_level(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    loaded = read_colour(save(tmp_path / f"a.{suffix}", gradient(), **options), modality="fundus")
    np.testing.assert_array_equal(loaded.image, gradient().transpose(2, 0, 1))
    assert loaded.image.flags.c_contiguous
    assert (loaded.unit, loaded.spatial_axes, loaded.affine, loaded.region) == ("level8", "yx", None, None)
    assert loaded.placement == Placement((37, 53), (0, 0, 37, 53), (37, 53), (0, 0), (37, 53))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    path = save(tmp_path / "a.png", gradient(), orientation)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    loaded = read_colour(path, modality="endoscopy")
    np.testing.assert_array_equal(loaded.image, upright.transpose(2, 0, 1))
    # Resizing before or after turning gives the same picture, mask and boxes.
    plain = save(tmp_path / "b.png", upright)
    for fit in ("stretch", "pad"):
        turned, straight = (read_colour(each, modality="endoscopy", size=(16, 24), fit=fit) for each in (path, plain))  # type: ignore[arg-type]
        assert turned.placement == straight.placement
        assert np.abs(turned.image.astype(int) - straight.image).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_crop_lands_where_it_should_whatever_the_orientation(tmp_path: Path, orientation: int) -> None:
    pixels = np.zeros((200, 260, 3), np.uint8)
    pixels[20:150, 60:250] = 150
    path = save(tmp_path / "a.png", pixels, orientation)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    rows, columns = np.flatnonzero(upright.any((1, 2))), np.flatnonzero(upright.any((0, 2)))
    loaded = read_colour(path, modality="endoscopy", crop=True, restrict_to_field=True)
    assert loaded.placement is not None
    assert loaded.region is not None
    assert loaded.placement.crop == (rows[0], columns[0], len(rows), len(columns))
    assert (loaded.image == 150).all()
    assert loaded.region.all()


def test_reduced_decoding_is_close_to_full_decoding(tmp_path: Path) -> None:
    # The size is no multiple of 8, so the last block of a reduced decoding is cut off.
    big = np.kron(gradient(41, 53), np.ones((29, 31, 1), np.uint8))
    path = save(tmp_path / "a.jpg", big, quality=92)
    loaded = read_colour(path, modality="fundus", size=(64, 96))
    assert loaded.facts["decoded_at"] == "1/8"
    full = np.asarray(Image.open(path).resize((96, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.abs(loaded.image.astype(int) - full).mean() < 2


def test_reduced_decoding_does_not_shift(tmp_path: Path) -> None:
    """A linear ramp stays where it is: a shift of one stored pixel would be 4 levels."""
    ramp = np.repeat(np.linspace(0, 255, 1021).round().astype(np.uint8)[None, :, None], 700, 0).repeat(3, 2)
    loaded = read_colour(save(tmp_path / "a.jpg", ramp, quality=98), modality="fundus", size=(64, 64))
    centres = (np.arange(64) + 0.5) / 64 * 255
    assert loaded.facts["decoded_at"] != "1/1"
    assert np.abs(loaded.image[0, 10, 2:-2] - centres[2:-2]).max() < 1.5


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", np.kron(gradient(), np.ones((20, 20, 1), np.uint8)))
    one, two = (read_colour(path, modality="fundus", size=(50, 50), fit="pad") for _ in range(2))
    assert one.image.tobytes() == two.image.tobytes()
    assert one.region is not None
    assert one.region.any(1).sum() == 35


def test_grey_pictures(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", gradient()[..., 0])
    assert read_colour(path, modality="fundus").image.shape == (3, 37, 53)
    assert read_colour(path, modality="ct").image.shape == (1, 37, 53)
    assert code_of(save(tmp_path / "b.png", gradient()), "ct") == "unsupported-colour"
    same = save(tmp_path / "c.png", np.repeat(gradient()[..., :1], 3, 2))
    np.testing.assert_array_equal(read_colour(same, modality="ct").image[0], gradient()[..., 0])


def test_palettes_and_opaque_alpha_are_read(tmp_path: Path) -> None:
    Image.fromarray(gradient()).quantize(200).save(tmp_path / "p.png")
    expected = np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_colour(tmp_path / "p.png", modality="fundus").image, expected)
    opaque = np.dstack([gradient(), np.full((37, 53), 255, np.uint8)])
    np.testing.assert_array_equal(read_colour(save(tmp_path / "o.png", opaque), modality="fundus").image, gradient().transpose(2, 0, 1))


def test_pictures_that_are_refused(tmp_path: Path) -> None:
    clear = np.dstack([gradient(), np.full((37, 53), 254, np.uint8)])
    assert code_of(save(tmp_path / "alpha.png", clear)) == "has-transparency"
    assert code_of(save(tmp_path / "16.png", gradient()[..., 0].astype(np.uint16) * 9)) == "not-8-bit"
    Image.fromarray(gradient()).convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert code_of(tmp_path / "cmyk.jpg") == "unsupported-colour"
    frames = [Image.fromarray(gradient()), Image.fromarray(gradient()[::-1])]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    assert code_of(tmp_path / "a.tiff") == "multiple-frames"
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    assert code_of(tmp_path / "a.png") == "multiple-frames"
    frames[0].save(tmp_path / "a.gif")
    assert code_of(tmp_path / "a.gif") == "unsupported-format"
    whole = save(tmp_path / "b.jpg", gradient()).read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    assert code_of(tmp_path / "b.jpg") == "decode-failed"
    assert code_of(tmp_path / "none.jpg") == "not-found"


def test_sixteen_bit_colour_is_not_cut_to_eight_in_silence(tmp_path: Path) -> None:
    """Pillow opens such a file as plain RGB; only the raw mode tells."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes(6 * 4) for _ in range(3))
    head = struct.pack(">LLBBBBB", 4, 3, 16, 2, 0, 0, 0)
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    with Image.open(path) as image:
        assert image.mode == "RGB"
    assert code_of(path) == "not-8-bit"


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (10_000, 8_001)).save(tmp_path / "a.png")
    assert code_of(tmp_path / "a.png") == "too-large"
    Image.new("1", (30_000, 30_000)).save(tmp_path / "b.png")
    assert code_of(tmp_path / "b.png") == "too-large"


def test_masks_of_photographs(tmp_path: Path) -> None:
    image = read_colour(save(tmp_path / "a.png", gradient()), modality="endoscopy", size=(74, 106))
    indices = np.zeros((37, 53), np.uint8)
    indices[10:20, 5:30] = 4
    expected = np.kron(indices, np.ones((2, 2), np.uint8))
    mask, warnings = read_mask([save(tmp_path / "m.png", indices)], image)
    np.testing.assert_array_equal(mask, expected)
    assert warnings == []
    np.testing.assert_array_equal(read_mask([save(tmp_path / "255.png", indices // 4 * 255)], image)[0], expected // 4)
    np.testing.assert_array_equal(read_mask([tmp_path / "255.png"], image, {"polyp": [255]})[0], expected // 4)
    np.testing.assert_array_equal(read_mask([tmp_path / "m.png"], image, {"a": [1], "b": [4]})[0], expected // 2)
    np.testing.assert_array_equal(read_mask([tmp_path / "m.png"], image, {"a": [1], "b": [4]}, multilabel=True)[0][1], expected // 4)
    lossy = save(tmp_path / "m.jpg", np.repeat(indices[..., None] // 4 * 255, 3, 2), quality=95)
    np.testing.assert_array_equal(read_mask([lossy], image)[0], expected // 4)
    np.testing.assert_array_equal(read_mask([lossy], image, {"polyp": [255]})[0], expected // 4)
    with pytest.raises(InputError, match="label-values"):
        read_mask([save(tmp_path / "c.png", gradient())], image)
    with pytest.raises(InputError, match="size-differs"):
        read_mask([save(tmp_path / "t.png", indices.T)], image)


def test_other_containers_of_jpeg_are_read_as_pillow_decodes_them(tmp_path: Path) -> None:
    jfif = save(tmp_path / "a.jfif", gradient(), format="JPEG", quality=90)
    second = Image.fromarray(255 - gradient())
    mpo = save(tmp_path / "b.mpo", gradient(), format="MPO", save_all=True, append_images=[second], quality=90)
    for path in (jfif, mpo):
        with Image.open(path) as picture:
            expected = np.asarray(picture).transpose(2, 0, 1)
        np.testing.assert_array_equal(read_colour(path, modality="fundus").image, expected)
    # Only MPO's second picture is a view beside the first; an animation has no first that speaks for it.
    animated = save(tmp_path / "c.webp", gradient(), save_all=True, append_images=[second])
    assert code_of(animated) == "multiple-frames"


@pytest.mark.parametrize("highest", [3, 1000, 65535])
def test_portable_maps_of_another_range_are_not_stretched(tmp_path: Path, highest: int) -> None:
    size = 1 if highest < 256 else 2
    path = tmp_path / "a.pgm"
    path.write_bytes(f"P5\n4 2\n{highest}\n".encode() + bytes(8 * size))
    assert code_of(path) == "not-8-bit"
    with pytest.raises(InputError, match="not-8-bit"):
        read_mask([path], read_colour(save(tmp_path / "i.png", gradient(2, 4)), modality="fundus"))


@pytest.mark.parametrize(
    ("modality", "asked", "message"),
    [
        ("fundus", {"exclude_overlay": True}, "exclude_overlay is for endoscopy"),
        ("ct", {"exclude_overlay": True}, "exclude_overlay is for endoscopy"),
        ("ct", {"crop": True}, "crop and restrict_to_field are for fundus and endoscopy"),
        ("ct", {"restrict_to_field": True}, "crop and restrict_to_field are for fundus and endoscopy"),
        ("xray", {}, "modality='xray': take fundus, endoscopy, ct"),
    ],
)
def test_what_a_modality_has_not_is_refused(tmp_path: Path, modality: str, asked: dict[str, bool], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_colour(tmp_path / "never looked at.png", modality=modality, **asked)  # type: ignore[arg-type]
