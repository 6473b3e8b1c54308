"""How is the work cut and computed?"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medadv.spec.base import Count, Settings

Codec = Literal["gzip", "szip", "blosc2", "zstd", "lz4", "none"]
DEFAULT_BATCH = 8
MOST_WORKERS, MOST_THREADS = 4096, 1024
"""More than machines have: a number beyond is a slip, and would take the machine down."""


class ExecutionSettings(Settings):
    """How the work is cut and computed. Batch size, threads, device kind, precision and seed change bits, so the plan freezes them."""

    batch_size: Count | Literal["auto"] = Field(DEFAULT_BATCH, description="auto: the largest that fits, found while the plan is made")
    shard_size: Count = 64
    workers: Annotated[Count, Field(le=MOST_WORKERS)] | Literal["auto"] = "auto"
    threads: Annotated[Count, Field(le=MOST_THREADS)] = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    memory_gib: float | None = Field(None, gt=1, description="of one worker, for batch_size: auto; a share of the machine unless given")
    precision: Literal["fp32", "auto"] = Field(
        "fp32",
        description="auto: the fastest way to execute whose attacks are as strong, measured while the plan is made, "
        "in bfloat16 and 8 bits only where the machine multiplies them fast",
    )
    codec: Codec = Field(
        "gzip",
        description="szip: 8-bit images in HDF5's own SZIP, the rest gzip; blosc2, zstd and lz4 need hdf5plugin to be read; "
        "none: not packed, with checksums, read fastest",
    )
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch_size != "auto" and self.shard_size % self.batch_size:
            raise ValueError(f"shard_size={self.shard_size} must be a multiple of batch_size={self.batch_size}")
        return self

    @property
    def batch(self) -> int:
        """The batch size, or the default one as long as `auto` is not resolved."""
        return DEFAULT_BATCH if self.batch_size == "auto" else self.batch_size
