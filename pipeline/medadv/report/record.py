"""What does a report say? Every figure of it as a typed record, from which page, JSON and model card are written."""

import math
from typing import Literal

from pydantic import Field

from medadv.common.record import Closed, Count, Sha256
from medadv.scoring.intervals import Interval


class Figure(Closed):
    """A value and its 95 % percentile bootstrap interval; null where it is not defined."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, interval: Interval) -> "Figure":
        """From an interval that says NaN."""
        value, low, high = (float(v) if math.isfinite(v) else None for v in (interval.value, interval.low, interval.high))
        return cls(value=value, low=low, high=high)


class Spread(Closed):
    """One value a sample: the middle one and both ends, over `over` samples; null without any."""

    median: float | None
    smallest: float | None
    largest: float | None
    over: Count


class Part(Closed):
    """Samples that have something in common."""

    name: str
    samples: Count
    groups: Count
    boxes: Count | None = Field(None, description="true boxes of the class; null where the truth is none of boxes")


class Parting(Closed):
    """One way in which samples are told apart."""

    by: str = Field(description="class, or what the label file calls it, such as site or device")
    looked_at: Count = Field(description="samples that were looked at for it")
    parts: list[Part]
    left_out: Count = Field(0, description="parts that are not listed")


class Model(Closed):
    """The model under attack."""

    network: str
    parameters: Count
    members: Count = Field(description="networks that answer together")
    weights_sha256: Sha256 | None
    input_steps: list[str] = Field(description="from stored values to what the network is given, in words")
    task: str
    score_threshold: float | None = Field(description="score from which a detection counts; null for other tasks")


class Population(Closed):
    """The data that it was tested on."""

    modality: str
    unit: str
    samples: Count
    groups: Count = Field(description="patients, studies or sessions, as the data set names them; else each sample is its own")
    samples_per_group: Spread
    split: str | None
    labels: Literal["given", "prediction"] = Field(description="prediction: the victim's own clean answer is the truth")
    licence: str | None
    quarantined: Count
    shards_missing: Count
    partings: list[Parting]


class Attack(Closed):
    """One attack and its budget."""

    name: str
    settings: str = Field(description="in words")
    epsilon: float = Field(description="L-infinity bound, in the stored unit")
    goal: str = Field(description="what success means")
    rule: str = Field(description="the stored rule of success")


class Result(Closed):
    """One metric of one attack over the whole corpus."""

    attack: str
    metric: str
    clean: Figure
    adversarial: Figure
    drop: Figure = Field(description="clean less adversarial, of the same samples in every resample")
    ignoring_image: float | None = Field(description="what an answer gets that ignores the image; null where that is not known")
    success: Figure
    attackable: Count


class Drop(Closed):
    """The same for a part of the samples."""

    attack: str
    by: str
    name: str
    metric: str
    samples: Count
    groups: Count
    boxes: Count | None
    clean: Figure
    adversarial: Figure
    drop: Figure


class GroupDrops(Closed):
    """Score drops of one attack, averaged within each group first."""

    attack: str
    mean: Spread
    worst_group: str | None = Field(description="group id of the largest mean drop, a keyed hash")


class Appearance(Closed):
    """How large an attack's perturbations are, and how alike images stay."""

    attack: str
    epsilon: float
    grey_levels: float = Field(description="epsilon in grey levels of 255 as the report shows images")
    share_of_range: float = Field(description="epsilon as a share of the range of stored values")
    linf: Spread
    rms: Spread = Field(description="root mean square of a sample's perturbation, stored unit")
    ssim: Spread = Field(description="of stored values, over their whole range")
    ssim_shown: Spread = Field(description="of the images as the report shows them, in grey levels")
    epsilon_in_noise: float | None = Field(description="epsilon divided by the scanner's noise; null where that was not measured")
    rms_in_noise: float | None


class Noise(Closed):
    """Noise of the scanner on the clean CT images, HU: the commonest standard deviation in small windows."""

    tissue: Spread = Field(description="in flat soft tissue")
    air: Spread = Field(description="in air, of samples where under 1 % of its voxels lie at the bound")
    air_at_bound: Spread = Field(description="share of the voxels of air that lie at the sample's lowest value")
    looked_at: Count
    window: Count = Field(description="side of the windows, voxels")


class Answer(Closed):
    """One point of the checklist, and what this corpus answers."""

    part: Literal["severe flaws", "pitfalls", "special cases"]
    point: str
    done: bool
    found: str = Field(description="the figure; where it is not done: why, or what there is instead")


class Term(Closed):
    """A term of the draft standard and what it is here."""

    term: str
    here: str


class Check(Closed):
    """One of the corpus's own sanity checks."""

    check: str
    found: str
    sound: str = Field(description="what a sound attack shows")


class Report(Closed):
    """`medadv report --format json`. Intervals of 95 % are over groups; figures are of stored samples, read back."""

    format: Literal["medadv-report"] = "medadv-report"
    format_version: Literal[1] = 1
    name: str
    content_root: Sha256
    manifest_sha256: Sha256
    made: str = Field(description="when the run ended")
    tool: str
    determinism: str
    model: Model
    models: dict[str, Model] = Field(default_factory=dict, description="all by name, where there are several; `model` is the first")
    population: Population
    attacks: list[Attack]
    results: list[Result]
    drops: list[Drop]
    group_drops: list[GroupDrops]
    appearance: list[Appearance]
    window: str | None = Field(description="CT window through which images are shown")
    noise: Noise | None = Field(description="null where images are not in HU")
    ignoring_image: str | None = Field(description="what the answer is that ignores the image")
    warnings: list[str]
    checks: list[Check] | None = Field(description="the corpus's sanity checks; null where none were made")
    checklist: list[Answer]
    terms: list[Term]
    limits: list[str]
    not_to_conclude: list[str]
    methods: str
    citations: list[str]
    responsible_use: str
