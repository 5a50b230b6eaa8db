"""The keys of every recipe, with their defaults; a task adds its own.

Everyday keys are flat (``lr: 0.02``), the others are in named groups, one level deep (``augment: {mixup: 0.2}``, on a
command line ``augment.mixup=0.2``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from clipwise.recipe.consistency import consistent, no_truth_for_numbers

Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Frames = Annotated[int, Field(ge=1, le=4096)]
"""Of a sample. A stranger's checkpoint that asks for a billion would else occupy the machine."""
Pixels = Annotated[int, Field(ge=16)]
"""Below this the networks' last maps are empty or one pixel, and statistics of batch norm are NaN."""
Size = Pixels | tuple[Pixels, Pixels] | None


class Only:
    """Marks a key that has an effect only while another key (``optimizer``, ``augment.crop``) has one of some values.

    Without values: while the other key is set at all.
    """

    def __init__(self, key: str, *values: str):
        self.key, self.values = key, values


class Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        validate_assignment=True,
        allow_inf_nan=False,
        serialize_by_alias=True,
    )

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """What differs from the defaults, without the facts about a published run; ``dump_recipe`` writes every key."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value != field.default and name not in ("published", "paper", "notes"):
                yield name, value

    _numbers = field_validator("*", mode="before")(no_truth_for_numbers)


class Published(Strict):
    """Facts about the published run: reported accuracy in percent and its setting. A run never uses them."""

    top1: float | None = None
    """Top-1 accuracy."""
    top5: float | None = None
    """Top-5 accuracy."""
    mean_class_accuracy: float | None = None
    """Mean class accuracy."""
    auc: float | None = None
    """Area under the AR-AN curve (proposals)."""
    mean_ap: float | None = None
    """mAP, averaged over overlaps."""
    mean_ap_at: dict[str, float] | None = None
    """mAP at single overlaps."""
    num_classes: int | None = None
    """Classes of the published model; a training takes the number in the data."""
    num_train_samples: Count | None = None
    """Size of the published training list, for ``explain`` without data."""
    gpus: str | None = None
    """Devices behind the published number, as the table writes it (nodes x devices)."""
    resolution: str | None = None
    """How the videos were stored."""
    checkpoint: str | None = None
    """Name of the published weights in the zoo (``clipwise.convert.zoo``)."""
    gpu_memory_mb: int | None = None
    """Training memory of one device as the table states it."""
    inference_videos_per_s: float | None = None
    """Speed as the table states it (one device, batch 1, model only)."""


class Optim(Strict):
    """The optimizer's rarer settings."""

    momentum: Annotated[Fraction, Only("optimizer", "sgd")] = 0.9
    """Momentum of SGD."""
    nesterov: Annotated[bool, Only("optimizer", "sgd")] = False
    """Nesterov form of SGD's momentum."""
    betas: Annotated[tuple[BelowOne, BelowOne], Only("optimizer", "adam", "adamw")] = (0.9, 0.999)
    """Moments of Adam and AdamW."""
    param_groups: Literal["all", "no_norm_bias", "tsm"] = "all"
    """`all`: decay hits everything (SlowOnly, TSN, TPN); `no_norm_bias`: not norms and biases; `tsm`: TSM's seven groups."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Learning rate of a stage is multiplied by this for each stage between it and the head."""
    first_stage_decay: Positive = 1.0
    """Factor of the weight decay of a model's first stage (of BMN the base, in OpenTAD 10)."""
    fused: bool | None = None
    """Let one kernel do the whole optimizer step; where torch has a fast one (CUDA, XPU) if not given."""
    ema_ramp: Annotated[bool, Only("ema_decay")] = True
    """`ema_decay` rises from 0.1 over the first steps; false: it holds from the first step on, as in the papers."""
    loss_scale: Annotated[Positive | None, Only("amp", "fp16")] = None
    """Fixed loss scale of `amp: fp16`; dynamic if not given."""


class Schedule(Strict):
    """Details of `lr_schedule` and of the warm-up."""

    milestones: Annotated[list[NonNegative], Only("lr_schedule", "step")] = []
    """Epochs after which `step` multiplies by `gamma`."""
    gamma: Annotated[Positive, Only("schedule.milestones")] = 0.1
    """Factor of `step`."""
    min_lr: Annotated[NonNegative, Only("lr_schedule", "cosine")] = 0.0
    """Learning rate at which `cosine` ends."""
    by: Annotated[Literal["epoch", "iteration"], Only("lr_schedule", "step", "cosine")] = "epoch"
    """How often the schedule (not the warm-up) moves."""
    warmup_start: Annotated[Fraction, Only("warmup_epochs")] = 0.1
    """Factor at which the warm-up starts."""
    warmup_to_last: Annotated[bool, Only("warmup_epochs")] = False
    """The last step of the warm-up has the whole learning rate already (ActionFormer, TriDet), not the first one after it."""
    after_warmup: Annotated[bool, Only("warmup_epochs")] = False
    """Start the schedule after the warm-up (MMAction2 1.x) instead of under it (0.x)."""


class Parallel(Strict):
    """Several processes."""

    mode: Literal["ddp", "fsdp"] = "ddp"
    """Each process holds the whole network (`ddp`), or a part of its weights and moments (`fsdp`: FSDP2)."""
    static_graph: Annotated[bool, Only("parallel.mode", "ddp")] = False
    """Promise that every step uses the same parameters in the same order, so that more communication overlaps."""


class Checkpoint(Strict):
    """When checkpoints are written."""

    every: Count = 1
    """Epochs between checkpoints."""
    every_steps: Count | None = None
    """Also write the resumable checkpoint every so many optimizer steps."""
    keep: CountOrZero = 0
    """How many epoch checkpoints stay beside `last` and `best`."""


class Log(Strict):
    """What a run reports."""

    every: Count = 20
    """Batches between two log lines."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow", "swanlab", "trackio"]] = []
    """Where the figures go besides the run's own files."""
    hang_warning_s: Positive | None = 600.0
    """Report a rank that makes no progress for so many seconds."""


class Validation(Strict):
    """Validation during training."""

    every: Count = 1
    """Epochs between validations (the last epoch is always validated)."""
    batch_size: Count | None = None
    """Samples a batch; as in training if not given."""


class RunRecipe(Strict):
    """Keys that every run has."""

    _origin: tuple[str, tuple[str, ...]] | None = PrivateAttr(None)

    @property
    def origin(self) -> tuple[str, tuple[str, ...]] | None:
        """The packaged recipe that this one was loaded from by its name, and the keys that were given with it."""
        return self._origin

    def __eq__(self, other: object) -> bool:  # by the keys, wherever they were loaded from
        return type(self) is type(other) and self.__dict__ == other.__dict__

    name: str = ""
    """Name of the run; the file's name if not given."""
    paper: str | None = None
    """Where the method comes from."""
    published: Published = Published()
    notes: list[str] = []
    """What is surprising in the original, and what we chose; printed by ``clipwise explain``."""
    model: str
    """Name of a model (``clipwise info MODEL``), or `package.module:function` or `./file.py:function` of your own."""
    model_args: dict[str, Any] = {}
    """Its keyword arguments."""
    init: str | None = None
    """Weights to start from: a checkpoint, another project's file, a name in the zoo, or `imagenet`."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Seed of all random numbers."""
    deterministic: bool = False
    """Ask torch for deterministic kernels."""
    train_data: str | None = None
    """List file or folder to train on."""
    val_data: str | None = None
    """List or folder for validation during training."""
    data_root: str | None = None
    """Prepended to the paths in the lists; the list's own folder if not given."""
    num_workers: Annotated[int, Field(ge=0, le=1024)] = 2
    """Loader processes a device."""
    epochs: Count = 1
    """Passes over the training list."""
    batch_size: Count = 8
    """Samples a device and batch."""
    accumulate: Count = 1
    """Batches whose gradients make one optimizer step."""
    base_batch_size: Count | None = None
    """Global batch for which `lr` is meant; used by `auto_scale_lr`."""
    auto_scale_lr: bool = False
    """Multiply `lr` by (global batch) / `base_batch_size`."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Optimizer."""
    lr: Positive = 0.01
    """Learning rate at `base_batch_size`."""
    weight_decay: NonNegative = 1e-4
    """Weight decay."""
    grad_clip: Positive | None = None
    """Largest total L2 norm of the gradients."""
    lr_schedule: Literal["constant", "step", "cosine"] = "step"
    """How the learning rate falls."""
    warmup_epochs: NonNegative = 0.0
    """Length of the linear warm-up."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Keep an exponential moving average of the weights, and validate and save it."""
    amp: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision."""
    tf32: bool = True
    """Let NVIDIA's matrix units round fp32 inputs to 10 bits of mantissa; no effect elsewhere."""
    compile: bool | Literal["default", "max-autotune", "reduce-overhead"] = False
    """Use torch.compile, in one of its modes (`true` is `default`)."""
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    parallel: Parallel = Parallel()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()

    _consistent = model_validator(mode="after")(consistent)

    def input_facts(self) -> dict[str, str]:
        """What a network of this recipe looks at, in plain figures."""
        return {}
