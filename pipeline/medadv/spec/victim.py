"""The model under attack, as the spec names it."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from medadv.spec.base import Settings
from medadv.spec.normalize import Normalization

MOST_MEMBERS = 32


class VictimSettings(Settings):
    """Network, weights and what its outputs mean."""

    ADDED: ClassVar[frozenset[str]] = frozenset(
        {"weights_key", "output", "combine", "activation", "window_padding", "window_places", "mirror", "slicewise", "code"}
    )

    network: str = Field(min_length=1, description="monai:, torchvision:, timm: or smp:NAME, a program file, python:package.module:factory")
    arguments: dict[str, Any] = Field(default_factory=dict)
    weights: str | Annotated[list[str], Field(min_length=1, max_length=MOST_MEMBERS)] | None = Field(
        None, description="safetensors or checkpoint, relative to the spec; several are members of one victim, such as folds"
    )
    combine: Literal["logits"] = Field("logits", description="what the answers of several members are averaged as")
    weights_key: str | None = Field(None, description="dictionary of the checkpoint that holds them; the one that fits best otherwise")
    output: int | str | None = Field(None, description="which of several outputs holds the logits; found where only one can")
    head: Literal["softmax", "sigmoid", "binary"] = Field(
        "softmax", description="one of several classes, each class by itself, or one value for two classes"
    )
    activation: Literal["none", "softmax", "sigmoid"] = Field(
        "none", description="the network answers probabilities, which this made of its logits"
    )
    normalize: Normalization = Field(description="mean and std, or window; or a list of steps, in order")
    window: tuple[int, ...] | None = Field(None, description="sliding window of the deployed inference, in voxels")
    overlap: float = Field(0.25, ge=0, lt=1, description="share of the window that neighbours share")
    window_mode: Literal["constant", "gaussian"] = "constant"
    window_batch: int = Field(4, ge=1)
    window_padding: Literal["constant", "replicate"] = Field(
        "constant", description="around images smaller than the window: 0, or the edge"
    )
    window_places: Literal["monai", "nnunet"] = Field("monai", description="whose tiles, and whose Gaussian")
    mirror: tuple[Annotated[int, Field(ge=0, le=2)], ...] | None = Field(
        None, min_length=1, max_length=3, description="spatial axes of test-time mirroring: the mean over all their combinations"
    )
    slicewise: bool = Field(False, description="a 2D network on volumes: the first spatial axis, after the steps, is a stack of pictures")
    code: str | None = Field(None, min_length=1, description="folder where the module of a python: factory is looked for first")
    score_threshold: float = Field(0.5, gt=0, lt=1, description="detections below it do not count as found (success rule)")

    @property
    def weight_files(self) -> list[str]:
        """The files of all members."""
        return [self.weights] if isinstance(self.weights, str) else list(self.weights or [])

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.activation == "softmax" and self.head != "softmax":
            raise ValueError(f"activation: softmax belongs to head: softmax; head: {self.head} has activation: sigmoid")
        if self.activation == "sigmoid" and self.head == "softmax":
            raise ValueError("activation: sigmoid belongs to head: sigmoid or binary; one of several classes has activation: softmax")
        if self.window is None and (self.window_padding != "constant" or self.window_places != "monai"):
            raise ValueError("window_padding and window_places say how windows lie: give window, their size, too")
        if self.code is not None and not self.network.startswith("python:"):
            raise ValueError(f"code is the folder of a python: factory's module, and network={self.network!r} is none")
        if self.mirror is not None and len(set(self.mirror)) != len(self.mirror):
            raise ValueError(f"mirror={list(self.mirror)} names an axis twice")
        if len(set(self.weight_files)) != len(self.weight_files):
            raise ValueError("weights names a file twice")
        return self
