"""How do stored values become what a network was trained on? Two shorthands, and a list of steps for everything else."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from medadv.common.record import plain
from medadv.spec.base import Settings

Range = tuple[float, float]
Length = Annotated[int, Field(ge=1, le=8192)]
MOST_CHANNELS = 64


class NormalizeSettings(Settings):
    """Differentiable normalisation inside the victim: mean and std of [0, 1] for 8-bit images, or a HU window mapped to [0, 1]."""

    mean: list[float] | None = None
    std: list[float] | None = None
    window: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together")
        if (self.mean is None) == (self.window is None):
            raise ValueError("give either mean and std (8-bit images) or window: [low, high] (HU)")
        if self.mean is not None and self.std is not None and (len(self.mean) != len(self.std) or min(self.std) <= 0):
            raise ValueError(f"mean={self.mean} and std={self.std} need one value per channel, std above 0")
        if self.window is not None and self.window[0] >= self.window[1]:
            raise ValueError(f"window={list(self.window)} must rise, such as [-1000, 400]")
        return self


def _rising(value: Range) -> Range:
    if value[0] >= value[1]:
        raise ValueError(f"{list(value)} must rise, such as [-1000, 400]")
    return value


class WindowStep(Settings):
    """`[low, high]`: linear onto 0 to 1, constant outside."""

    window: Range
    _check = field_validator("window")(_rising)


class WindowsStep(Settings):
    """`[[low, high], …]`: several windows of a single channel, each a channel."""

    windows: list[Range] = Field(min_length=1, max_length=MOST_CHANNELS)

    @field_validator("windows")
    @classmethod
    def _rise(cls, value: list[Range]) -> list[Range]:
        return [_rising(each) for each in value]


class ClipStep(Settings):
    """`[low, high]`: values outside become the bounds."""

    clip: Range
    _check = field_validator("clip")(_rising)


class ScaleStep(Settings):
    """`[a, b, low, high]`: linear, a becomes low and b becomes high. `clip` keeps the result between these."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"clip"})

    scale: tuple[float, float, float, float]
    clip: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.scale[0] == self.scale[1]:
            raise ValueError(f"scale={list(self.scale)}: the first two values are equal, so they cannot become two others")
        if self.clip and self.scale[2] >= self.scale[3]:
            raise ValueError(f"scale={list(self.scale)} with clip: the last two values must rise")
        return self


class Constants(Settings):
    """Mean and standard deviation in the units that the step meets, one value, or one a channel."""

    mean: list[float] = Field(min_length=1)
    std: list[float] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(f"mean={self.mean} and std={self.std} need one value per channel, std above 0")
        return self


class ZscoreStep(Settings):
    """Less the mean, over the standard deviation: `{mean: […], std: […]}`, one value or one a channel, or `image`: those of each image.

    `nonzero`: over what is not 0, and nothing else is changed. `filled`: likewise, holes included, the same for all channels, as nnU-Net
    has it.
    """

    ADDED: ClassVar[frozenset[str]] = frozenset({"nonzero", "per_channel"})

    zscore: Constants | Literal["image"]
    nonzero: bool | Literal["filled"] = False
    per_channel: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.zscore != "image" and self.per_channel:
            raise ValueError("per_channel is for zscore: image; constants are given one a channel")
        return self


class MinmaxStep(Settings):
    """`[low, high]`: linear, what each image's least and greatest value become. An image of one value is multiplied by the first."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"per_channel"})

    minmax: Range
    per_channel: bool = False
    _check = field_validator("minmax")(_rising)


class ResizeStep(Settings):
    """`[length, …]` of each axis: to the network's size. The stored grid stays what is attacked: masks and boxes come back to it."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"mode", "antialias", "align_corners"})

    resize: list[Length] = Field(min_length=2, max_length=3, description="length of each spatial axis, in the order of the image's axes")
    mode: Literal["linear", "nearest", "nearest-exact", "area"] = Field("linear", description="as torch's interpolate calls them")
    antialias: bool = False
    align_corners: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.antialias or self.align_corners) and self.mode != "linear":
            raise ValueError(f"antialias and align_corners belong to mode: linear, not to {self.mode}")
        if self.antialias and len(self.resize) == 3:
            raise ValueError("antialias is for pictures, not for volumes")
        return self


class Channels(Settings):
    """One of: `repeat` each channel so often; take them in another `order`; a `slab` of so many neighbouring slices along the first spatial
    axis, an odd number, the outermost repeated at the ends; append so many `zeros`.
    """

    ADDED: ClassVar[frozenset[str]] = frozenset({"repeat", "order", "slab", "zeros"})

    repeat: int | None = Field(None, ge=2, le=MOST_CHANNELS)
    order: list[Annotated[int, Field(ge=0, le=MOST_CHANNELS)]] | None = Field(None, min_length=1, max_length=MOST_CHANNELS)
    slab: int | None = Field(None, ge=3, le=MOST_CHANNELS)
    zeros: int | None = Field(None, ge=1, le=MOST_CHANNELS)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(value is not None for value in (self.repeat, self.order, self.slab, self.zeros)) != 1:
            raise ValueError("channels takes one of repeat, order, slab and zeros")
        if self.slab is not None and self.slab % 2 == 0:
            raise ValueError(f"channels.slab={self.slab} must be odd: a slice and as many neighbours on either side")
        return self


class ChannelsStep(Settings):
    """`{repeat: 3}` each channel so often; `{order: [2, 1, 0]}`; `{slab: 5}` neighbouring slices; `{zeros: 2}` empty channels behind."""

    channels: Channels


class TransposeStep(Settings):
    """Spatial axes in another order: `[1, 0]` shows a picture x first. Answers come back."""

    transpose: list[Annotated[int, Field(ge=0, le=2)]]

    @field_validator("transpose")
    @classmethod
    def _permutes(cls, value: list[int]) -> list[int]:
        if sorted(value) not in ([0, 1], [0, 1, 2]):
            raise ValueError(f"{value} is no order of the spatial axes, such as [1, 0] or [2, 1, 0]")
        return value


class FlipStep(Settings):
    """`[0, 2]`: spatial axes that run the other way. Answers come back."""

    flip: list[Annotated[int, Field(ge=0, le=2)]] = Field(min_length=1, max_length=3)


class CropStep(Settings):
    """To the box around everything that is not 0, or above 0, and `margin` voxels more; what lies outside is answered as background."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"margin"})

    crop: Literal["nonzero", "positive"]
    margin: int = Field(0, ge=0, le=1024)


class IdentityStep(Settings):
    """Nothing: the network takes stored values."""

    identity: Literal[True]


STEPS: dict[str, type[Settings]] = {
    "window": WindowStep,
    "windows": WindowsStep,
    "scale": ScaleStep,
    "zscore": ZscoreStep,
    "minmax": MinmaxStep,
    "resize": ResizeStep,
    "channels": ChannelsStep,
    "transpose": TransposeStep,
    "flip": FlipStep,
    "crop": CropStep,
    "identity": IdentityStep,
    "clip": ClipStep,
}
"""By the key that names a step. `clip` comes last: beside `scale` it is that step's option."""


def _kind(value: Any) -> str | None:
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", ())
    return next((name for name in STEPS if name in keys), None)


Step = Annotated[
    Annotated[WindowStep, Tag("window")]
    | Annotated[WindowsStep, Tag("windows")]
    | Annotated[ScaleStep, Tag("scale")]
    | Annotated[ZscoreStep, Tag("zscore")]
    | Annotated[MinmaxStep, Tag("minmax")]
    | Annotated[ResizeStep, Tag("resize")]
    | Annotated[ChannelsStep, Tag("channels")]
    | Annotated[TransposeStep, Tag("transpose")]
    | Annotated[FlipStep, Tag("flip")]
    | Annotated[CropStep, Tag("crop")]
    | Annotated[IdentityStep, Tag("identity")]
    | Annotated[ClipStep, Tag("clip")],
    Discriminator(
        _kind,
        custom_error_type="unknown_step",
        custom_error_message=f"a step is a mapping with one of {', '.join(sorted(STEPS))}",
    ),
]
Steps = Annotated[list[Step], Field(min_length=1, max_length=32)]


def _form(value: Any) -> str:
    return "steps" if isinstance(value, list | tuple) else "shorthand"


Normalization = Annotated[Annotated[NormalizeSettings, Tag("shorthand")] | Annotated[Steps, Tag("steps")], Discriminator(_form)]


def described(normalize: Normalization) -> list[str]:
    """What happens to stored values before the network sees them, in order, in a spec's own words."""
    steps = [normalize] if isinstance(normalize, NormalizeSettings) else normalize
    return [", ".join(f"{key}: {value}" for key, value in sorted(plain(step).items()) if value is not None) for step in steps]


def hu_window(normalize: Normalization) -> Range | None:
    """The window through which a victim looks first, in stored units, where it has one."""
    if isinstance(normalize, NormalizeSettings):
        return normalize.window
    for step in normalize:
        if isinstance(step, WindowStep):
            return step.window
        if isinstance(step, WindowsStep):
            return step.windows[0]
        if isinstance(step, ScaleStep) and step.clip:
            return min(step.scale[:2]), max(step.scale[:2])
        if isinstance(step, ClipStep):
            return step.clip
        if not isinstance(step, TransposeStep | FlipStep | ResizeStep | ChannelsStep | CropStep):
            return None
    return None
