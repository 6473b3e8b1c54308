"""DICOM CT series: read in the right order, units and place, or refused for the right reason."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless
from tests.transforms.ct_phantoms import COLUMNS, ROWS, ct_slice, edited, enhanced, stored_values, write_series

from medadv_transforms import InputError, count_slices, inspect_ct, read_ct_slice, read_ct_volume
from medadv_transforms.errors import REASONS_AND_ADVICE


def code_of(files: list[Path], **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_ct_volume(files, **options)
    return caught.value.code


def test_values_order_and_affine_are_the_phantoms(tmp_path: Path) -> None:
    slices = [ct_slice(z) for z in range(5)]
    random.Random(3).shuffle(slices)
    volume = read_ct_volume(write_series(tmp_path, slices))
    expected = np.stack([stored_values(z).T.astype(int) - 1024 for z in range(5)], axis=-1)
    assert volume.image.shape == (1, COLUMNS, ROWS, 5)
    assert volume.image.dtype == np.int16
    assert volume.image.flags.c_contiguous
    np.testing.assert_array_equal(volume.image[0], expected)
    # LPS (-10, -20, 30) is RAS (10, 20, 30); columns are 0.75 mm apart and run to the left, rows 0.5 mm and to the back.
    np.testing.assert_allclose(volume.affine, [[-0.75, 0, 0, 10], [0, -0.5, 0, 20], [0, 0, 2, 30], [0, 0, 0, 1]])
    assert volume.facts["spacing_mm"] == [0.75, 0.5, 2.0]
    assert volume.facts["orientation"] == "LPS"


def test_feet_first_orientation_sorts_along_the_normal(tmp_path: Path) -> None:
    volume = read_ct_volume(write_series(tmp_path, [ct_slice(z, ImageOrientationPatient=[-1, 0, 0, 0, 1, 0]) for z in range(3)]))
    # The normal points down, so the highest slice comes first.
    np.testing.assert_array_equal(volume.image[0, :, :, 0], stored_values(2).T.astype(int) - 1024)
    np.testing.assert_allclose(volume.affine[:3, 2], [0, 0, -2])


def test_a_slice_is_a_plane_of_the_volume(tmp_path: Path) -> None:
    files = write_series(tmp_path, [ct_slice(z) for z in (2, 0, 1)])
    volume = read_ct_volume(files)
    assert count_slices(files) == 3
    for index in range(3):
        one = read_ct_slice(files, index)
        np.testing.assert_array_equal(one.image, volume.image[..., index])
        np.testing.assert_allclose(one.affine[:, 3], volume.affine @ [0, 0, index, 1])
    with pytest.raises(InputError, match="bad-index"):
        read_ct_slice(files, 3)


def test_inspect_agrees_with_reading(tmp_path: Path) -> None:
    files = write_series(tmp_path, [ct_slice(z) for z in range(4)])
    for options in ({}, {"orientation": "RAS"}, {"spacing": (1.0, 1.0, 1.5)}, {"orientation": "SPR", "spacing": (3.0, 0.7, 0.9)}):
        facts, volume = inspect_ct(files, **options), read_ct_volume(files, **options)
        assert facts.shape == volume.image.shape[1:]
        assert list(facts.spacing) == volume.facts["spacing_mm"]
        assert facts.orientation == volume.facts["orientation"]


def test_enhanced_frames_take_geometry_and_rescale_from_their_groups(tmp_path: Path) -> None:
    volume = read_ct_volume(write_series(tmp_path, [enhanced()]))
    classic = read_ct_volume(write_series(tmp_path / "classic", [ct_slice(z) for z in range(3)]))
    np.testing.assert_array_equal(volume.image, classic.image)
    np.testing.assert_allclose(volume.affine, classic.affine)


def test_compressed_frames_of_one_object(tmp_path: Path) -> None:
    plain = read_ct_volume(write_series(tmp_path / "plain", [enhanced(4)]))
    dataset = enhanced(4)
    dataset.compress(RLELossless)
    np.testing.assert_array_equal(read_ct_volume(write_series(tmp_path / "rle", [dataset])).image, plain.image)


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, RLELossless])
def test_transfer_syntaxes_written_by_pydicom(tmp_path: Path, syntax: str) -> None:
    plain = read_ct_volume(write_series(tmp_path / "plain", [ct_slice(z) for z in range(3)]))
    slices = [ct_slice(z) for z in range(3)]
    for dataset in slices:
        if syntax == RLELossless:
            dataset.compress(RLELossless)
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
    volume = read_ct_volume(write_series(tmp_path / "other", slices))
    np.testing.assert_array_equal(volume.image, plain.image)


def test_big_endian(tmp_path: Path) -> None:
    dataset = ct_slice(0)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.PixelData = stored_values(0).astype(">u2").tobytes()
    pydicom.dcmwrite(tmp_path / "0.dcm", dataset, little_endian=False, implicit_vr=False, force_encoding=True)
    np.testing.assert_array_equal(read_ct_volume([tmp_path / "0.dcm"]).image[0, :, :, 0], stored_values(0).T.astype(int) - 1024)


def test_rescale_rounds_half_to_even_and_clips(tmp_path: Path) -> None:
    array = np.array([[0, 1, 2, 3], [3000, 4000, 4095, 5]], np.uint16)
    volume = read_ct_volume(write_series(tmp_path, [ct_slice(0, array=array, RescaleSlope="1.5", RescaleIntercept="-1025")]))
    # -1025 is clipped, -1023.5 and -1020.5 are halves, 4975 and 5117.5 are clipped; 1.5 * 5 - 1025 = -1017.5.
    np.testing.assert_array_equal(volume.image[0, :, :, 0].T, [[-1024, -1024, -1022, -1020], [3071, 3071, 3071, -1018]])
    assert volume.facts["clipped_voxels"] == 4


def test_intercept_per_slice(tmp_path: Path) -> None:
    volume = read_ct_volume(write_series(tmp_path, [ct_slice(0), ct_slice(1, RescaleIntercept="-1000"), ct_slice(2)]))
    assert volume.image[0, 0, 0].tolist() == [-1024, 100 - 1000, 200 - 1024]


def test_signed_values_and_padding_fall_to_the_low_end(tmp_path: Path) -> None:
    array = np.array([[-2000, 0], [1024, 2000]], np.int16)
    signed = {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15, "PixelPaddingValue": -2000}
    volume = read_ct_volume(write_series(tmp_path, [ct_slice(0, array=array, **signed)]))
    np.testing.assert_array_equal(volume.image[0, :, :, 0].T, [[-1024, -1024], [0, 976]])
    assert volume.facts["padding_voxels"] == 1
    assert volume.facts["clipped_voxels"] == 1


FAULTS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "gap": ("missing-slices", [{"z": 0}, {"z": 1}, {"z": 3}]),
    "every other": ("missing-slices", [{"z": 0, "SpacingBetweenSlices": 1.0}, {"z": 1, "SpacingBetweenSlices": 1.0}]),
    "uneven": ("uneven-spacing", [{"z": 0}, {"z": 1}, {"z": 2.3}]),
    "twice": ("duplicate-position", [{"z": 0}, {"z": 1}, {"z": 1}]),
    "orientation": ("orientation-differs", [{"z": 0}, {"z": 1, "ImageOrientationPatient": [1, 0, 0, 0, -1, 0]}]),
    "size": ("size-differs", [{"z": 0}, {"z": 1, "array": stored_values(0, 4, 8)}]),
    "pixels": ("spacing-differs", [{"z": 0}, {"z": 1, "PixelSpacing": [0.5, 0.8]}]),
    "slope": ("slope-differs", [{"z": 0}, {"z": 1, "RescaleSlope": "2"}]),
    "frame of reference": ("frame-of-reference-differs", [{"z": 0}, {"z": 1, "FrameOfReferenceUID": "1.2.9"}]),
    "series": ("mixed-series", [{"z": 0}, {"z": 1, "SeriesInstanceUID": "1.2.9"}]),
    "no rescale": ("missing-rescale", [{"RescaleSlope": None}]),
    "no intercept": ("missing-rescale", [{"RescaleIntercept": None}]),
    "slope zero": ("bad-rescale", [{"RescaleSlope": "0"}]),
    "intercept absurd": ("bad-rescale", [{"RescaleIntercept": "1e300"}]),
    "no position": ("missing-position", [{"ImagePositionPatient": None}]),
    "no orientation": ("missing-position", [{"ImageOrientationPatient": None}]),
    "no spacing": ("missing-position", [{"PixelSpacing": None}]),
    "no thickness": ("missing-position", [{"SliceThickness": None}]),
    "not orthogonal": ("bad-geometry", [{"ImageOrientationPatient": [1, 0, 0, 0.6, 0.8, 0]}]),
    "absurd spacing": ("bad-geometry", [{"PixelSpacing": [0.5, 500]}]),
    "MR": ("not-ct", [{"Modality": "MR"}]),
    "capture": ("not-ct", [{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}]),
    "units": ("not-hu", [{"RescaleType": "US"}]),
    "scout": ("localizer", [{"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}]),
    "burnt in": ("burned-in-annotation", [{"BurnedInAnnotation": "YES"}]),
    "inverse": ("unsupported-photometric", [{"PhotometricInterpretation": "MONOCHROME1"}]),
    "short": ("length-mismatch", [{"Rows": ROWS + 1}]),
    "frames": ("missing-position", [{"NumberOfFrames": 2}]),
    "bits": ("unsupported-datatype", [{"HighBit": 15}]),
    "overlay bits": ("bits-out-of-range", [{"array": stored_values(0) | 0x8000}]),
    "huge": ("too-large", [{"Rows": 65535, "Columns": 65535}]),
    "video": ("unsupported-transfer-syntax", [{"syntax": "1.2.840.10008.1.2.4.100", "PixelData": encapsulate([b"\0\0"])}]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_with_their_reason(tmp_path: Path, fault: str) -> None:
    code, slices = FAULTS[fault]
    datasets = [ct_slice(int(each.get("z", 0)), **{k: v for k, v in each.items() if k != "z"}) for each in slices]
    for dataset, each in zip(datasets, slices, strict=True):
        if each.get("z") is not None:
            dataset.ImagePositionPatient = [-10.0, -20.0, 30.0 + 2.0 * each["z"]]
    assert code_of(write_series(tmp_path, datasets)) == code


@pytest.mark.parametrize(("tag", "shift"), [(0.0, 0.5), (12.0, 0.0)])
def test_gantry_tilt(tmp_path: Path, tag: float, shift: float) -> None:
    slices = [ct_slice(z, ImagePositionPatient=[-10, -20 + shift * z, 30 + 2 * z], GantryDetectorTilt=tag) for z in range(4)]
    assert code_of(write_series(tmp_path, slices)) == "gantry-tilt"


def test_positions_rounded_to_a_tenth_are_even(tmp_path: Path) -> None:
    slices = [ct_slice(z, ImagePositionPatient=[-10, -20, round(0.625 * z, 1)]) for z in range(12)]
    assert read_ct_volume(write_series(tmp_path, slices)).facts["spacing_mm"][2] == pytest.approx(0.625, abs=0.01)


def test_slices_may_lie_unevenly_but_nothing_else(tmp_path: Path) -> None:
    uneven = write_series(tmp_path / "uneven", [ct_slice(z) for z in (0, 1, 3)])
    assert count_slices(uneven) == 3
    assert read_ct_slice(uneven, 2).image[0, 0, 0] == 300 - 1024
    repeated = write_series(tmp_path / "repeated", [ct_slice(0), ct_slice(0)])
    with pytest.raises(InputError, match="duplicate-position"):
        count_slices(repeated)


def test_burnt_in_annotation_can_be_allowed(tmp_path: Path) -> None:
    files = write_series(tmp_path, [ct_slice(0, BurnedInAnnotation="YES")])
    assert read_ct_volume(files, allow_burned_in=True).image.shape[1:] == (COLUMNS, ROWS, 1)


def test_enhanced_map_that_is_not_in_hu_is_refused(tmp_path: Path) -> None:
    assert code_of(write_series(tmp_path, [enhanced(RescaleType="US")])) == "not-hu"


def test_lost_bytes_inside_the_pixels_are_noticed(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [ct_slice(0)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-30] + b"\7\7" + whole[-30:])
    assert code_of([path]) == "decode-failed"
    path.write_bytes(whole[:-2])
    assert code_of([path]) in ("decode-failed", "length-mismatch")


def test_files_that_are_no_input(tmp_path: Path) -> None:
    text = tmp_path / "notes.dcm"
    text.write_text("not DICOM")
    assert code_of([text]) == "not-dicom"
    assert code_of([tmp_path / "nowhere.dcm"]) == "not-found"
    assert code_of([]) == "empty-input"
    empty = tmp_path / "empty.dcm"
    empty.touch()
    assert code_of([empty]) == "decode-failed"


def test_messages_hold_no_header_values(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Nothing of the header shows in the error, its traceback or a warning, whatever is wrong with it."""
    refusals = []
    for number, (_, slices) in enumerate(FAULTS.values()):
        files = write_series(tmp_path / str(number), [ct_slice(0, **{k: v for k, v in slices[-1].items() if k != "z"})])
        edited(files[0], AccessionNumber="X" * 12)
        data = files[0].read_bytes().replace(b"XXXXXXXXXXXX", b"X" * 6 + b"\xff" * 6)
        files[0].write_bytes(data)
        try:
            read_ct_volume(files)
        except InputError as error:
            refusals.append(error)
    assert len(refusals) > 15
    for refusal in refusals:
        text = f"{refusal} {refusal!r} {refusal.__cause__}"
        assert not any(secret in text for secret in ("Q7731", "Muster", ".dcm", "1.2.826"))
        # A parser's own exception, which quotes values, must not hang on in the traceback.
        assert refusal.__suppress_context__ or refusal.__context__ is None
        assert refusal.code in REASONS_AND_ADVICE
    assert not [warning for warning in recwarn if "pydicom" in str(warning.filename)]


def test_pydicom_stays_as_it_was(tmp_path: Path) -> None:
    """Reading silences pydicom only while it runs."""
    (path,) = write_series(tmp_path, [ct_slice(0)])
    read_ct_volume([path])
    bad = pydicom.Dataset()
    with pytest.warns(UserWarning, match="Invalid value"):
        bad.add_new("SeriesInstanceUID", "UI", "not a uid")


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (("NO", "NO", "NO"), "NO"),
        (("no ", "NO", "NO"), "NO"),
        (("NO", None, "NO"), None),
        (("NO", "MUSTER ERIKA", "NO"), None),
        ((None, None, None), None),
        (("NO", "YES", None), "YES"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value")
def test_what_headers_say_of_burnt_in_text_is_a_fact_if_all_do(words: tuple[str | None, ...], fact: str | None, tmp_path: Path) -> None:
    slices = [ct_slice(z) if word is None else ct_slice(z, BurnedInAnnotation=word) for z, word in enumerate(words)]
    facts = read_ct_volume(write_series(tmp_path, slices), allow_burned_in=True).facts
    assert facts.get("burned_in_annotation") == fact
    assert "MUSTER" not in str(facts)
    first = read_ct_slice(sorted(tmp_path.iterdir()), 0, allow_burned_in=True).facts
    assert first.get("burned_in_annotation") == (words[0].strip().upper() if words[0] else None)


@pytest.mark.parametrize(("words", "fact"), [(("00", "00"), "00"), (("00", "01"), "01"), (("00", None), None), ((None, "01"), "01")])
def test_what_headers_say_of_lossy_compression_is_a_fact(words: tuple[str | None, ...], fact: str | None, tmp_path: Path) -> None:
    slices = [ct_slice(z) if word is None else ct_slice(z, LossyImageCompression=word) for z, word in enumerate(words)]
    assert read_ct_volume(write_series(tmp_path, slices)).facts.get("lossy_image_compression") == fact
