"""Why an input cannot be used: one exception, a closed list of reason codes, and what to do about each."""

from typing import NamedTuple


class Reason(NamedTuple):
    """One line that explains a code, and one that says what to do."""

    meaning: str
    advice: str


REASONS_AND_ADVICE: dict[str, Reason] = {
    # Files
    "not-found": Reason("The file does not exist or cannot be opened.", "Check the path and the permissions."),
    "symlink": Reason("The path is a symbolic link, which is not followed.", "Copy the file into the data folder."),
    "unsupported-format": Reason(
        "The file is of no kind that is read here.",
        "Convert it to DICOM or NIfTI (CT), or to JPEG, PNG, TIFF, BMP, PPM or WebP (photographs).",
    ),
    "decode-failed": Reason("The file is damaged or truncated: it does not decode.", "Fetch the file again from its source."),
    "length-mismatch": Reason(
        "The header promises another amount of image data than the file holds.", "Fetch the file again; the header or the data is wrong."
    ),
    "too-large": Reason(
        "The image is larger than the limits for files, pixels or voxels.", "Check that the header is right; crop or split the image."
    ),
    "empty-input": Reason("No file was given, or the folder holds no image.", "Check the path."),
    "bad-index": Reason("The slice asked for does not exist.", "Plan again: the input has changed."),
    # What the image is
    "not-dicom": Reason("The file is not a DICOM file.", "Take the file out of the DICOM tree."),
    "not-an-image": Reason(
        "The DICOM object holds no image (report, structure set, directory).",
        "Nothing, if it is expected in the tree.",
    ),
    "not-ct": Reason("The image is not a computed tomography image.", "Give CT images only."),
    "not-hu": Reason(
        "The stored values are not Hounsfield units (a derived map, normalised values, or integers from 0 up without a rescale).",
        "Give the original CT in HU, or state data.offset for integers without a rescale: -1024, or 0 where they are HU.",
    ),
    "localizer": Reason("The image is a localizer (scout), not a slice.", "Nothing, if it is expected in the tree."),
    "burned-in-annotation": Reason(
        "The header says that text is burnt into the pixels, which may identify the patient.", "De-identify the pixels first."
    ),
    "unsupported-photometric": Reason("The pixels are not single-channel MONOCHROME2.", "Give the original grey-level image."),
    "unsupported-transfer-syntax": Reason(
        "The DICOM transfer syntax is not supported.",
        "Transcode to JPEG 2000, JPEG-LS, RLE or uncompressed.",
    ),
    "unsupported-datatype": Reason(
        "The voxels are of a type that is not read (colour, complex, odd bit layout).",
        "Convert to 16-bit integers.",
    ),
    "unsupported-units": Reason("The lengths in the header are not in millimetres.", "Convert the header to millimetres."),
    "not-3d": Reason(
        "The image has more than three dimensions or fewer than two.",
        "Split a series of volumes into single volumes.",
    ),
    "not-finite": Reason("Some voxels are NaN or infinite.", "Repair the image at its source."),
    # Rescale
    "missing-rescale": Reason(
        "Rescale slope or intercept is missing, so HU cannot be known.",
        "Give the original series with its rescale.",
    ),
    "bad-rescale": Reason(
        "Rescale slope or intercept is not a usable number, or is given as a table.",
        "Give the original series.",
    ),
    "slope-differs": Reason("The slices have different rescale slopes.", "Give a series of one reconstruction."),
    "bits-out-of-range": Reason(
        "Stored values exceed the bits that the header states.",
        "Fetch the file again; old overlays in unused bits must be removed.",
    ),
    # Geometry
    "missing-position": Reason(
        "Position, orientation or pixel spacing is missing, so the geometry cannot be known.",
        "Give files with full geometry.",
    ),
    "bad-geometry": Reason(
        "Orientation, spacing or affine is impossible (not orthogonal, zero, absurd).",
        "Repair the header at its source.",
    ),
    "ambiguous-geometry": Reason(
        "The header states two geometries that contradict each other.",
        "Make sform, qform and pixdim agree.",
    ),
    "missing-slices": Reason(
        "A gap in the positions shows that slices are missing.",
        "Complete the series, or use its slices one by one.",
    ),
    "uneven-spacing": Reason(
        "The slices are not evenly spaced.",
        "Give an evenly spaced reconstruction, or use its slices one by one.",
    ),
    "duplicate-position": Reason(
        "Several slices lie at one position (repeated files, phases or time points).",
        "Split the phases, remove repeats.",
    ),
    "gantry-tilt": Reason(
        "The slices are shifted along the stack (gantry tilt), so the grid is not rectangular.",
        "Resample the series upright first.",
    ),
    "orientation-differs": Reason("The slices are oriented differently.", "Split the series by orientation."),
    "size-differs": Reason(
        "The images, an image and its mask, or an image and what the label file says of it, have different sizes.",
        "Split the series by size; check the mask; label the images as they are now.",
    ),
    "spacing-differs": Reason("The slices have different pixel spacings.", "Split the series by reconstruction."),
    "frame-of-reference-differs": Reason(
        "The slices name different frames of reference, so their positions cannot be compared.",
        "Give each slice as an image of its own, or repair the headers.",
    ),
    "mixed-series": Reason("The files belong to different series.", "Give the files of one series."),
    # Photographs
    "not-8-bit": Reason("The picture has more than 8 bits per channel.", "Convert to 8 bits with a stated window."),
    "unsupported-colour": Reason(
        "The colour model is not grey or RGB (CMYK, Lab), or a CT picture is coloured.",
        "Convert to RGB or grey.",
    ),
    "has-transparency": Reason("The picture has transparent pixels.", "Flatten the picture."),
    "multiple-frames": Reason("The file holds several pictures or an animation.", "Save one frame per file."),
    "no-field-of-view": Reason("No field of view was found in the picture.", "Check the picture, or leave cropping off."),
    # What a data set says of its samples
    "outside-root": Reason("The file lies outside the data root.", "Move it there, or set data.allow_outside: true."),
    "missing-label": Reason("The sample has no label.", "Fill it in, leave the sample out, or set data.label: none."),
    "unknown-label": Reason("The label is no class that is known.", "Correct it, or name the class."),
    "bad-box": Reason(
        "A box is not four numbers (six in space) with positive lengths inside the image.", "Correct the annotation."
    ),
    "bad-segment": Reason("A polygon or run length of the label file is damaged.", "Correct the annotation."),
    "duplicate": Reason("The same image stands in the data set twice.", "Nothing: the first one was taken."),
    "duplicate-conflict": Reason("The same image stands in the data set with different labels.", "Correct the labels; none was taken."),
    "changed-input": Reason("The input changed or vanished after the plan was made.", "Put it back, or make another corpus."),
    "kills-worker": Reason(
        "The process that worked on this sample alone died twice.",
        "Look at the file: a decoder or the network cannot take it, or one sample is more than the memory holds.",
    ),
    "wrong-unit": Reason("The image has another unit than the rest of the corpus.", "Make one corpus for HU and one for 8-bit images."),
    # Labels
    "label-values": Reason(
        "Mask values are no classes: not whole numbers from 0 to 255, soft edges, colours, or 255 in another sense than elsewhere.",
        "Save class indices, name the values in label_map, or set data.threshold for masks with soft edges.",
    ),
    "label-geometry": Reason(
        "The mask has its image's shape but lies elsewhere: its affine is another one, not that grid flipped or with axes exchanged.",
        "Correct the affine, or set data.mask_geometry: voxels where the voxels are known to match.",
    ),
    "label-no-overlap": Reason("The mask lies nowhere on the image.", "Check that image and mask belong together."),
    "label-overlap": Reason("Segments overlap, and one class index per voxel cannot hold that.", "Use multi-label masks."),
    "label-map": Reason(
        "The label map is empty, or a multi-label mask is asked for without one.",
        "List the classes in label_map.",
    ),
    "unsupported-segmentation": Reason(
        "The DICOM segmentation is fractional or incomplete.",
        "Save it as a binary segmentation.",
    ),
}

REASONS: dict[str, str] = {code: reason.meaning for code, reason in REASONS_AND_ADVICE.items()}
"""Reason code -> what it means, in one line."""


class InputError(Exception):
    """An input that cannot be used.

    `code` is a key of REASONS; `message` says what was found, never with header values or file names; `advice` what to do.
    """

    def __init__(self, code: str, message: str = "") -> None:
        reason = REASONS_AND_ADVICE[code]
        self.code = code
        self.message = message or reason.meaning
        self.advice = reason.advice
        super().__init__(code, message)

    def __str__(self) -> str:
        return f"{self.code}: {self.message} {self.advice}"
