"""The model under attack, as the spec names it."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from medadv.spec.base import Settings


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


class VictimSettings(Settings):
    """Network, weights and what its outputs mean."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"weights_key", "output"})

    network: str = Field(min_length=1, description="monai:, torchvision:, timm: or smp:NAME, a program file, python:package.module:factory")
    arguments: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = Field(None, description="safetensors or checkpoint, relative to the spec")
    weights_key: str | None = Field(None, description="dictionary of the checkpoint that holds them; the one that fits best otherwise")
    output: int | str | None = Field(None, description="which of several outputs holds the logits; found where only one can")
    head: Literal["softmax", "sigmoid"] = "softmax"
    normalize: NormalizeSettings
    window: tuple[int, ...] | None = Field(None, description="sliding window of the deployed inference, in voxels")
    overlap: float = Field(0.25, ge=0, lt=1, description="share of the window that neighbours share")
    window_mode: Literal["constant", "gaussian"] = "constant"
    window_batch: int = Field(4, ge=1)
    score_threshold: float = Field(0.5, gt=0, lt=1, description="detections below it do not count as found (success rule)")
