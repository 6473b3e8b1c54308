"""Where the images are, what their labels mean, and how they are preprocessed."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from medadv.spec.base import Settings
from medadv.spec.modality import Modality

Task = Literal["classification", "segmentation", "detection"]
Layout = Literal["csv", "decathlon", "coco", "yolo", "folders", "dicom"]
Size = Annotated[int, Field(ge=8, le=8192)]


class SplitSettings(Settings):
    """The part of the data set to take: `use` names a value of `column` (csv, coco), a list (decathlon) or a folder (yolo, folders)."""

    column: str = "split"
    use: str
    ignore: list[str] = Field(default_factory=list, description="values that are no split: such samples are left out, and cross nothing")


class DataSettings(Settings):
    """Input images and labels."""

    modality: Modality
    task: Task
    layout: Layout
    path: str = Field(min_length=1, description="label file or folder, relative to the spec")
    image: str | None = Field(None, description="csv column of the image file, or (csv, folders) a template: images/{id}.png")
    label: str | list[str] | None = Field(
        None, description="column(s) of the truth, mask file (dicom), template of masks (folders), or `none`: the victim's answer"
    )
    group: str | None = Field(None, description="column or key of the patient, study or session")
    group_conflict: Literal["error", "drop"] = "error"
    split: SplitSettings | None = None
    label_map: dict[str, list[int]] | None = Field(None, description="class name -> source mask values, counted from 1")
    classes: list[str] | None = Field(None, description="class names of csv or folders labels, in the victim's order")
    licence: str | None = None
    allow_outside: bool = Field(False, description="allow symbolic links and paths that leave the data root")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.layout == "csv" and self.label is None:
            raise ValueError("layout csv needs `label`: the column of the truth, or `none`")
        if self.label_map is not None and self.task != "segmentation":
            raise ValueError(f"label_map merges mask values and means nothing for task {self.task}")
        return self

    @property
    def unlabelled(self) -> bool:
        """Whether the victim's own clean prediction is the truth."""
        return self.label == "none"


class PreprocessSettings(Settings):
    """How an input becomes a stored image. 2D colour images have one size per corpus."""

    size: tuple[Size, Size] | None = Field(None, description="height, width of the stored image in pixels (8-bit images)")
    fit: Literal["stretch", "pad"] = "pad"
    crop: bool = Field(False, description="crop to the field of view (fundus) or off the black border (endoscopy)")
    region: bool = Field(False, description="no perturbation outside the field of view (fundus) or on burnt-in overlays (endoscopy)")
    spacing: tuple[float, float, float] | None = Field(None, description="mm per voxel along x, y, z (CT volumes)")
    orientation: str | None = Field(None, pattern=r"^[RLAPSI]{3}$", description="axis codes of the stored CT volume, such as RAS")
    as_: Literal["volume", "slices"] = Field("volume", alias="as", description="a CT series as one volume, or each slice a sample")

    @field_validator("spacing")
    @classmethod
    def _positive(cls, value: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if value is not None and not all(0.05 <= v <= 50 for v in value):
            raise ValueError(f"spacing={list(value)} must lie between 0.05 and 50 mm")
        return value
