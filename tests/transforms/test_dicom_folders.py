"""DICOM files without a preamble, and what lies among the slices of a series and is none."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from ct_phantoms import ct_slice, stored_values, write_nifti, write_series
from pydicom.uid import ImplicitVRLittleEndian

from medadv_transforms import InputError, find_series, read_ct_volume, read_mask
from medadv_transforms.nifti import FOREIGN_VOLUMES


def bare(path: Path, *, meta: bool) -> Path:
    """The file without its preamble, or also without its meta group."""
    data = path.read_bytes()
    length = int.from_bytes(data[140:144], "little")
    path.write_bytes(data[132:] if meta else data[144 + length :])
    return path


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_a_preamble_are_read_to_the_same_values(tmp_path: Path, meta: bool, implicit: bool) -> None:
    options = {"syntax": ImplicitVRLittleEndian} if implicit else {}
    files = write_series(tmp_path / "a", [ct_slice(z, **options) for z in range(3)])
    whole = read_ct_volume(files)
    (found,) = find_series(tmp_path / "a")
    assert found.files == tuple(files)
    np.testing.assert_array_equal(read_ct_volume([bare(path, meta=meta) for path in files]).image, whole.image)
    (found,) = find_series(tmp_path / "a")
    assert (len(found.files), found.rejected) == (3, ())


def test_what_only_begins_like_an_element_is_no_dicom(tmp_path: Path) -> None:
    for number, data in enumerate((b"\2\0\0\0UL" + b"\xff" * 300, b"\10\0\5\0" + b"\x7f" * 300, b"\2\0" * 200)):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(data)
        with pytest.raises(InputError) as caught:
            read_ct_volume([path])
        assert caught.value.code in ("not-dicom", "decode-failed", "not-an-image", "not-ct")


def test_copies_and_untagged_scouts_are_set_aside(tmp_path: Path) -> None:
    slices = [ct_slice(z) for z in range(4)]
    scouts = [
        ct_slice(9, ImageOrientationPatient=[1, 0, 0, 0, 0, -1], array=stored_values(1, 20, 12)),
        ct_slice(8, ImageOrientationPatient=[0, 1, 0, 0, 0, -1], array=stored_values(2, 20, 10)),
    ]
    files = write_series(tmp_path / "s", [*slices, *scouts])
    shutil.copy(files[2], tmp_path / "s" / "2 copy.dcm")
    (found,) = find_series(tmp_path / "s")
    assert sorted(path.name for path in found.files) == sorted(["0.dcm", "1.dcm", "3.dcm", "2 copy.dcm"])
    assert {path.name: why for path, why in found.aside} == {"2.dcm": "copy", "4.dcm": "scout", "5.dcm": "scout"}
    np.testing.assert_array_equal(read_ct_volume(found.files).image, read_ct_volume(files[:4]).image)


def test_what_may_be_meant_is_not_set_aside(tmp_path: Path) -> None:
    # Another picture at the same place; a second stack as large as the first; two slices and a third plane.
    write_series(tmp_path / "a", [*(ct_slice(z) for z in range(3)), ct_slice(1, array=stored_values(7))])
    with pytest.raises(InputError, match="duplicate-position"):
        read_ct_volume(find_series(tmp_path / "a")[0].files)
    planes = ([1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1])
    write_series(tmp_path / "b", [ct_slice(z, ImageOrientationPatient=plane) for plane in planes for z in range(3)])
    write_series(tmp_path / "c", [ct_slice(0), ct_slice(1), ct_slice(2, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])])
    for name, count in (("b", 6), ("c", 3)):
        (found,) = find_series(tmp_path / name)
        assert (len(found.files), found.aside) == (count, ())
        with pytest.raises(InputError, match="orientation-differs"):
            read_ct_volume(found.files)


@pytest.mark.parametrize("suffix", FOREIGN_VOLUMES)
def test_other_volume_formats_say_that_they_are_not_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"NRRD0004\n" + bytes(400))
    with pytest.raises(InputError, match="unsupported-format"):
        read_ct_volume([path])
    image = read_ct_volume([write_nifti(tmp_path / "i.nii", np.full((4, 4, 4), -5, np.int16), np.eye(4))])
    with pytest.raises(InputError, match="unsupported-format"):
        read_mask([path], image)
