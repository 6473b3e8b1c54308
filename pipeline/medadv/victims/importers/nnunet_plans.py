"""What did nnU-Net plan? Its plans.json of both forms and its dataset.json, as records."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import AliasChoices, Field, JsonValue, ValidationError, model_validator

from medadv.common.errors import SpecError
from medadv.common.record import Open, RecordError, parse
from medadv.datasets.label_files import read_text

Record = TypeVar("Record", bound=Open)
Widths = int | list[int]

OLD_NETWORKS: Mapping[str, str] = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
"""By `UNet_class_name`: what the constructor calls the number of convolutions, or of residual blocks, in each stage of the encoder."""


class Architecture(Open):
    """A network by the path of its class, its arguments, and which of them are paths of classes again."""

    network_class_name: str
    arch_kwargs: dict[str, JsonValue]
    requires_import: list[str] = Field(default_factory=list, alias="_kw_requires_import")


class OldArchitecture(Open):
    """What plans before nnU-Net 2.4 say of the network; everything else about it was fixed."""

    UNet_class_name: str
    UNet_base_num_features: int
    unet_max_num_features: int
    n_conv_per_stage_encoder: list[int]
    n_conv_per_stage_decoder: list[int]
    conv_kernel_sizes: list[Widths]
    pool_op_kernel_sizes: list[Widths]


class Configuration(Open):
    """One configuration, such as 3d_fullres, with what it inherits.  patch_size, spacing: axes as the network sees them, without the stack
    of slices where it is 2D; spacing in mm.
    """

    patch_size: list[Annotated[int, Field(ge=1)]] = Field(min_length=2, max_length=3)
    spacing: list[Annotated[float, Field(gt=0)]]
    normalization_schemes: list[str] = Field(min_length=1)
    use_mask_for_norm: list[bool]
    preprocessor_name: str = "DefaultPreprocessor"
    previous_stage: str | None = None
    architecture: Architecture | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.spacing) != len(self.patch_size):
            raise ValueError(f"patch_size has {len(self.patch_size)} lengths, spacing {len(self.spacing)}")
        return self


class Intensities(Open):
    """Of the training set's foreground, over all cases."""

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class Plans(Open):
    """plans.json.  transpose_forward: axes of an array as nnU-Net's reader gives it, in the order in which the network takes them."""

    configurations: dict[str, dict[str, JsonValue]]
    transpose_forward: list[int]
    image_reader_writer: str
    label_manager: str = "LabelManager"
    intensities: dict[str, Intensities] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality"),
    )


class Dataset(Open):
    """dataset.json.  labels: a value, or a region's values, by name.  regions_class_order: which value each region leaves in a mask."""

    channel_names: dict[str, str] = Field(validation_alias=AliasChoices("modality", "channel_names"), min_length=1)
    labels: dict[str, int | list[int]]
    regions_class_order: list[int] | None = None


def read(model: type[Record], file: Path) -> Record:
    """A file of a model folder as a record.  Raises SpecError."""
    if not file.is_file():
        raise SpecError(f"{file.parent} is no folder of a trained model: it holds no {file.name}")
    try:
        return parse(model, read_text(file))
    except (OSError, UnicodeDecodeError, RecordError) as error:
        raise SpecError(f"{file}: no {file.name} of nnU-Net version 2: {error}") from None


def configuration(plans: Plans, name: str, file: Path) -> Configuration:
    """A configuration with everything that it inherits.  file: where the plans were read, for messages.  Raises SpecError."""
    merged: dict[str, JsonValue] = {}
    following: JsonValue = name
    passed: list[str] = []
    while following is not None:
        if not isinstance(following, str) or following not in plans.configurations:
            raise SpecError(f"{file}: no configuration {following!r}; there are {', '.join(plans.configurations)}")
        if following in passed:
            raise SpecError(f"{file}: configuration {name!r} inherits from itself, by way of {', '.join(passed)}")
        passed.append(following)
        found = plans.configurations[following]
        merged = {**found, **merged, "inherits_from": None}
        following = found.get("inherits_from")
    try:
        known = Configuration.model_validate(merged)
        return known if known.architecture else known.model_copy(update={"architecture": _of_old(merged, len(known.patch_size))})
    except ValueError as error:
        raise SpecError(f"{file}: configuration {name!r}: {_where(error)}") from None


def _of_old(merged: Mapping[str, JsonValue], axes: int) -> Architecture:
    old = OldArchitecture.model_validate(merged)
    if old.UNet_class_name not in OLD_NETWORKS:
        raise ValueError(f"UNet_class_name {old.UNet_class_name!r} is none of {', '.join(OLD_NETWORKS)}")
    stages = len(old.n_conv_per_stage_encoder)
    return Architecture(
        network_class_name=old.UNet_class_name,
        arch_kwargs={
            "n_stages": stages,
            "features_per_stage": [min(old.UNet_base_num_features << stage, old.unet_max_num_features) for stage in range(stages)],
            "conv_op": f"torch.nn.Conv{axes}d",
            "kernel_sizes": [*old.conv_kernel_sizes],
            "strides": [*old.pool_op_kernel_sizes],
            OLD_NETWORKS[old.UNet_class_name]: [*old.n_conv_per_stage_encoder],
            "n_conv_per_stage_decoder": [*old.n_conv_per_stage_decoder],
            "conv_bias": True,
            "norm_op": f"torch.nn.InstanceNorm{axes}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
    )


def _where(error: ValueError) -> str:
    """One line of what a record lacks."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'it'}: {first['msg']}"
