"""Which transforms of a bundle move voxels, and what stands for them? The stored grid, or a step inside the victim."""

from medadv.victims.importers.bundle.arguments import Reader
from medadv.victims.importers.bundle.found import Found
from medadv.victims.importers.bundle.values import Component, Words

LINEAR = ("bilinear", "trilinear", "linear")
MOVES = ("resize", "crop", "transpose", "flip")


def _orientation(found: Found, transform: Component) -> None:
    codes = found.argument(transform, "axcodes")
    if found.argument(transform, "as_closest_canonical", False):
        codes = "RAS"
    _before(found, transform, ("resize", "transpose", "flip"))
    found.preprocess["orientation"] = str(codes)


def _spacing(found: Found, transform: Component) -> None:
    spacing = found.argument(transform, "pixdim")
    spacing = [float(each) for each in spacing] if isinstance(spacing, list) else [float(spacing)] * 3
    if len(spacing) != 3 or min(spacing) <= 0:
        raise found.configuration.refused(f"{transform.key}: Spacingd with pixdim {spacing}, where a spec takes three lengths above 0")
    _before(found, transform, MOVES)
    if found.preprocess.get("spacing", spacing) != spacing:
        raise found.configuration.refused(f"{transform.key}: Spacingd behind one of another pixdim, which has no word in a spec")
    if "orientation" not in found.preprocess and len(set(spacing)) > 1:
        found.note("Spacingd stands before Orientationd: its lengths are taken along the axes of the stored orientation")
    if any(name not in MOVES for step in found.steps for name in step):
        found.note("Spacingd stands behind changes of values; here volumes are resampled first, so values between voxels differ")
    mode = found.of_image(transform, "mode", "bilinear")
    found.preprocess["spacing"] = spacing
    found.note(
        f"the bundle resamples volumes to {spacing} mm (mode {mode}); here that is done linearly, on grids that share the outer face of "
        "their first voxel, where MONAI's share its centre: up to half a voxel apart. Images that have this spacing already are the same"
    )


def _before(found: Found, transform: Component, names: tuple[str, ...]) -> None:
    """Raise where the stored grid would have to be made after a step that moves voxels."""
    if behind := [name for step in found.steps for name in step if name in names]:
        raise found.configuration.refused(f"{transform.key}: {transform.name} behind {behind[0]}, which has no word in a spec")


def _resize(found: Found, transform: Component) -> None:
    size, mode = found.argument(transform, "spatial_size"), found.of_image(transform, "mode", "area")
    size = size if isinstance(size, list) else [size] * (2 if found.picture else 3)
    whole = found.argument(transform, "size_mode", "all") == "all" and all(isinstance(each, int) and each > 0 for each in size)
    modes = {**dict.fromkeys(LINEAR, "linear"), "nearest": "nearest", "nearest-exact": "nearest-exact", "area": "area"}
    if not whole or mode not in modes:
        raise found.configuration.refused(f"{transform.key}: Resized to {size} with mode {mode}, which has no word in a spec")
    corners = bool(found.of_image(transform, "align_corners", False))
    found.step("resize", size, mode=None if modes[mode] == "linear" else modes[mode], align_corners=corners)
    if found.picture:
        # MONAI's lengths are those of x and y, a spec's of y and x.
        stored = size[::-1] if {"transpose": [1, 0]} in found.steps else size
        found.preprocess |= {"size": stored, "fit": "stretch"}
        found.note(
            f"pictures are stored at the network's size {stored}, resampled with antialiasing where Resized takes none; with another "
            "preprocess.size, they are attacked at that size and resized inside the victim"
        )


def _crop(found: Found, transform: Component) -> None:
    margin, divisible = found.argument(transform, "margin", 0), found.argument(transform, "k_divisible", 1)
    source = found.argument(transform, "source_key", found.image)
    lengths = {*(margin if isinstance(margin, list) else [margin])}
    plain = transform.argument("select_fn") is None and transform.argument("channel_indices") is None
    if source != found.image or not plain or len(lengths) > 1 or divisible not in (1, [1, 1, 1]):
        raise found.configuration.refused(f"{transform.key}: CropForegroundd with a choice of its own, which has no word in a spec")
    # MONAI takes what is above 0. Where the values are in [0, …] that is what is not 0.
    positive = not any(_starts_at_zero(step) for step in found.steps[-1:])
    margin = lengths.pop()
    if margin and not found.argument(transform, "allow_smaller", False):
        raise found.configuration.refused(f"{transform.key}: CropForegroundd with a margin that pads, which has no word in a spec")
    found.step("crop", "positive" if positive else "nonzero", margin=int(margin) or None)


def _starts_at_zero(step: Words) -> bool:
    if "scale" in step:
        return bool(step.get("clip")) and step["scale"][2] == 0
    return "window" in step or ("minmax" in step and step["minmax"][0] == 0)


def _pad(found: Found, transform: Component) -> None:
    """Zeros around images that are smaller: what windows of that size do by themselves, in the same places."""
    size, mode = found.argument(transform, "spatial_size"), found.of_image(transform, "mode", "constant")
    size = size if isinstance(size, list) else [size] * (2 if found.picture else 3)
    plain = found.argument(transform, "method", "symmetric") == "symmetric" and transform.named.get("value", 0) == 0
    if mode != "constant" or not plain or not all(isinstance(each, int) and each > 0 for each in size):
        raise found.configuration.refused(f"{transform.key}: SpatialPadd to {size} with choices of its own, which has no word in a spec")
    found.padded = size


def _transpose(found: Found, transform: Component) -> None:
    order = found.argument(transform, "indices")
    if not isinstance(order, list) or order[0] != 0:
        raise found.configuration.refused(f"{transform.key}: Transposed with indices {order}, which has no word in a spec")
    found.step("transpose", [axis - 1 for axis in order[1:]])


def _flip(found: Found, transform: Component) -> None:
    axes = found.argument(transform, "spatial_axis")
    axes = list(range(2 if found.picture else 3)) if axes is None else axes if isinstance(axes, list) else [axes]
    dims = 2 if found.picture else 3
    found.step("flip", [axis % dims for axis in axes])


CROPPED = ("source_key", "select_fn", "channel_indices", "margin", "allow_smaller", "k_divisible", "mode")
PLACING: dict[str, Reader] = {
    "Orientation": Reader(_orientation, ("axcodes", "as_closest_canonical")),
    # MONAI heeds align_corners on both of the grids that it resamples between, and so it changes nothing.
    "Spacing": Reader(_spacing, ("pixdim", "mode", "align_corners", "recompute_affine", "ensure_same_shape")),
    "Resize": Reader(_resize, ("spatial_size", "size_mode", "mode", "align_corners")),
    "CropForeground": Reader(_crop, (*CROPPED, "start_coord_key", "end_coord_key", "return_coords")),
    "SpatialPad": Reader(_pad, ("spatial_size", "method", "mode", "value")),
    "Transpose": Reader(_transpose, ("indices",)),
    "Flip": Reader(_flip, ("spatial_axis",)),
}
