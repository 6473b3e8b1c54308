"""Where the images are, what their labels mean, and how they are preprocessed."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import Field, field_validator, model_validator

from medadv.spec.base import Settings
from medadv.spec.modality import MODALITIES, Modality

Task = Literal["classification", "segmentation", "detection"]
Layout = Literal["csv", "decathlon", "coco", "yolo", "folders", "dicom", "nnunet"]
LABEL_FILES = ("csv", "decathlon", "coco", "yolo")
"""Layouts whose images are named in files."""
Size = Annotated[int, Field(ge=8, le=8192)]


DICOM_STRATA = (
    "Manufacturer", "ManufacturerModelName", "ConvolutionKernel", "KVP", "SliceThickness", "BodyPartExamined", "InstitutionName",
)
"""What `strata` may take from DICOM headers: nothing that names a person."""
BACKGROUND = "background"
"""Name in a label map for values that are no class."""


def numbered(label_map: Mapping[str, object]) -> list[str]:
    """Names of a label map's classes, from class 1 on."""
    return [name for name in label_map if name != BACKGROUND]


class Named(Protocol):
    """What may name classes: the data of a spec, or of a plan."""

    @property
    def classes(self) -> list[str] | None:
        """In the victim's order."""

    @property
    def label_map(self) -> Mapping[str, object] | None:
        """Class name -> source mask values."""


def class_names(data: Named) -> list[str]:
    """Names of the classes as they are numbered, without the background; empty where nothing names them."""
    return data.classes or numbered(data.label_map or {})


class SplitSettings(Settings):
    """The part of the data set to take: `use` names a value of `column` (csv, coco), a list (decathlon), a folder (yolo, folders), Tr or Ts
    (nnunet).
    """

    column: str = "split"
    use: str
    ignore: list[str] = Field(default_factory=list, description="values that are no split: such samples are left out, and cross nothing")


class PartSettings(Settings):
    """Whole groups (patients, sessions) of the split, drawn by seed; of a sample without a group, its image stands for one."""

    share: float = Field(gt=0, lt=1, description="share of the groups that is cut off, at least one; groups that come later move the cut")
    seed: int = Field(0, ge=0, description="which groups are cut off")
    take: Literal["cut", "rest"] = Field(description="the groups that are cut off, or the others")


class DataSettings(Settings):
    """Input images and labels."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"root", "threshold", "mask_geometry", "offset", "box_mode", "box_space", "strata", "part"})

    modality: Modality
    task: Task
    layout: Layout
    path: str = Field(min_length=1, description="label file or folder, relative to the spec")
    root: str | None = Field(
        None, description="folder that names in a label file are relative to (csv, decathlon, coco, yolo), itself relative to the spec"
    )
    image: str | None = Field(
        None, description="csv column of the image file, or a template: images/{id}.png (csv, folders), val2017/{file_name} (coco)"
    )
    label: str | list[str] | None = Field(
        None,
        description="column(s) of the truth, mask file or template (dicom), template of masks (folders), or `none`: the victim's answer; a "
        "list of masks is one file a class",
    )
    group: str | None = Field(None, description="column or key of the patient, study or session")
    strata: list[str] | None = Field(
        None,
        min_length=1,
        max_length=8,
        description="columns or keys by which reports tell samples apart, such as site or device (csv, decathlon, coco), or DICOM keywords "
        f"({', '.join(DICOM_STRATA)}); their values are published",
    )
    group_conflict: Literal["error", "drop"] = "error"
    split: SplitSettings | None = None
    part: PartSettings | None = Field(None, description="only some groups of the split, such as those held back for validation")
    label_map: dict[str, list[int]] | None = Field(
        None, description="class name -> source mask values, classes counted from 1 as written; values under `background` are 0"
    )
    threshold: int | None = Field(None, ge=0, le=254, description="mask pictures: levels above it are 1, the others 0")
    mask_geometry: Literal["affine", "voxels"] = Field(
        "affine", description="voxels: a mask of its image's shape lies on the image's grid, whatever its affine says"
    )
    offset: int | None = Field(
        None, ge=-8192, le=8192, description="added to CT integers without a rescale of which none is below 0: -1024, or 0 if they are HU"
    )
    box_mode: Literal["cccwhd", "xyzwhd", "xyzxyz", "xxyyzz", "xyxyzz"] = Field(
        "cccwhd", description="what the six numbers of a box in space are (decathlon): MONAI's names; c: centre, w, h, d: lengths"
    )
    box_space: Literal["lps", "ras"] = Field(
        "lps", description="axes of these numbers, in mm: those of DICOM, ITK and LUNA16, or those of NIfTI"
    )
    classes: list[str] | None = Field(
        None, description="class names of csv or folders labels, or of boxes in space, in the victim's order"
    )
    licence: str | None = None
    allow_outside: bool = Field(False, description="allow symbolic links and paths that leave the data root")

    @model_validator(mode="before")
    @classmethod
    def _in_order(cls, value: Any) -> Any:
        """A label map with its classes as they are numbered.

        What is written and read again has its keys sorted, so `classes` keep the order of a map that is not in alphabetical order.
        """
        label_map, classes = (value.get("label_map"), value.get("classes")) if isinstance(value, dict) else (None, None)
        if not isinstance(label_map, dict) or not all(isinstance(name, str) for name in label_map):
            return value
        names = numbered(label_map)
        if classes is None:
            return value if names == sorted(names) else {**value, "classes": names}
        given = [str(name) for name in classes] if isinstance(classes, list) else []
        if sorted(given) == sorted(names):
            background = [name for name in label_map if name not in names]
            return {**value, "label_map": {name: label_map[name] for name in background + given}}
        if names != sorted(names):
            raise ValueError(f"label_map names {', '.join(names)}, and classes {', '.join(given)}: leave classes out")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.layout == "csv" and self.label is None:
            raise ValueError("layout csv needs `label`: the column of the truth, or `none`")
        if self.label_map is not None and self.task != "segmentation":
            raise ValueError(f"label_map merges mask values and means nothing for task {self.task}")
        if self.label_map is not None and isinstance(self.label, list) and len(self.label) > 1:
            raise ValueError("one mask file a class: their order in `label` numbers the classes, so leave label_map out")
        if self.root is not None and self.layout not in LABEL_FILES:
            raise ValueError(f"root belongs to the layouts {', '.join(LABEL_FILES)}; in {self.layout}, path is the root")
        self._check_strata()
        in_space = self.layout == "decathlon" and self.task == "detection"
        if in_space and not MODALITIES[self.modality].in_space:
            raise ValueError("layout decathlon has boxes in space, for CT volumes; boxes of pictures take layout coco or yolo")
        if not in_space and (self.box_mode != "cccwhd" or self.box_space != "lps"):
            raise ValueError("box_mode and box_space say how boxes in space are written: layout decathlon, task detection")
        if self.threshold is not None and (self.task != "segmentation" or self.label_map is not None):
            raise ValueError("threshold makes masks of 0 and 1 for task segmentation; it goes without label_map")
        if self.mask_geometry != "affine" and (self.task != "segmentation" or not MODALITIES[self.modality].in_space):
            raise ValueError("mask_geometry is for CT volumes with masks")
        if self.offset is not None and not MODALITIES[self.modality].in_space:
            raise ValueError(f"offset leads to Hounsfield units and means nothing for {self.modality}")
        return self

    def _check_strata(self) -> None:
        if self.strata is None:
            return
        if self.layout not in (*LABEL_FILES[:3], "dicom"):
            raise ValueError(f"strata={self.strata}: layout {self.layout} says no more of its images; take csv, decathlon or coco")
        if self.group in self.strata:
            raise ValueError(f"strata names the group {self.group!r}, whose values are kept secret: name something else")
        if self.layout == "dicom" and (odd := [name for name in self.strata if name not in DICOM_STRATA]):
            raise ValueError(f"strata={odd[0]!r} is none of {', '.join(DICOM_STRATA)}")

    @property
    def unlabelled(self) -> bool:
        """Whether the victim's own clean prediction is the truth."""
        return self.label == "none"


class MirrorSettings(Settings):
    """Samples mirrored before they are attacked, each in one of the ways that the axes allow, by its id."""

    axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = Field(min_length=1, description="spatial axes of the stored image")
    turn: int = Field(0, ge=0, description="1, 2, ...: every sample in another way; of one axis there are two, of two four")

    @field_validator("axes")
    @classmethod
    def _once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value):
            raise ValueError("mirror.axes names an axis twice")
        return value


class PreprocessSettings(Settings):
    """How an input becomes a stored image. 2D colour images have one size per corpus."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"mirror"})

    size: tuple[Size, Size] | None = Field(None, description="height, width of the stored image in pixels (8-bit images)")
    fit: Literal["stretch", "pad"] = "pad"
    crop: bool = Field(False, description="crop to the field of view (fundus) or off the black border (endoscopy)")
    region: bool = Field(False, description="no perturbation outside the field of view (fundus) or on burnt-in overlays (endoscopy)")
    spacing: tuple[float | None, float | None, float | None] | None = Field(
        None, description="mm per voxel along x, y, z (CT volumes); null for an axis that keeps its own"
    )
    orientation: str | None = Field(None, pattern=r"^[RLAPSI]{3}$", description="axis codes of the stored CT volume, such as RAS")
    as_: Literal["volume", "slices"] = Field("volume", alias="as", description="a CT series as one volume, or each slice a sample")
    mirror: MirrorSettings | None = Field(None, description="mirrored before the attack: a corpus to train on, as `harden` makes it")

    @field_validator("spacing")
    @classmethod
    def _positive(cls, value: tuple[float | None, ...] | None) -> tuple[float | None, ...] | None:
        if value is not None and not all(v is None or 0.05 <= v <= 50 for v in value):
            raise ValueError(f"spacing={list(value)} must lie between 0.05 and 50 mm")
        if value is not None and not any(value):
            raise ValueError(f"spacing={list(value)} asks for nothing: leave it out")
        return value
