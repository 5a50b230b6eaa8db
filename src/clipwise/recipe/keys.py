"""The keys of a recipe, with their defaults: those of every run, and those of a recognizer (TSN, TSM, SlowOnly, TPN)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Size = Count | tuple[Count, Count] | None


class Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, validate_assignment=True, allow_inf_nan=False
    )


class Published(Strict):
    """What the authors or MMAction2 reported for this recipe; facts, never used by a run."""

    top1: float | None = None
    """Top-1 accuracy in percent."""
    top5: float | None = None
    """Top-5 accuracy in percent."""
    mean_class_accuracy: float | None = None
    """Mean class accuracy in percent."""
    auc: float | None = None
    """Area under the AR-AN curve in percent (proposals)."""
    num_classes: int | None = None
    """Classes of the published model; a training takes the number in the data."""
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


class Source(Strict):
    """An auxiliary training source beside the main list (OmniSource)."""

    name: str
    """Suffix of this source's log lines."""
    kind: Literal["video", "image", "untrimmed", "rawframes"] = "video"
    """`image`: a picture repeated to a clip; `untrimmed`: one positive clip of a cut web video a visit."""
    data: str
    """List file or folder."""
    data_root: str | None = None
    """Prepended to the paths in the list."""
    every: Count = 1
    """One step on this source after every so many steps of the main source."""
    batch_size: Count | None = None
    """Clips a device; the main batch size if not given."""
    class_power: Fraction | None = None
    """Class probability is proportional to (its share)^power: 1 natural, 0 uniform; none: plain shuffling."""
    list_format: str = "auto"
    """As the key of the main list."""
    soft_labels: str | None = None
    """As the key of the main list."""


class RunRecipe(Strict):
    """Keys that every run has: data, optimization, bookkeeping."""

    # -- the run
    name: str = ""
    """Name of the run; the file's name if not given."""
    paper: str | None = None
    """Where the method comes from."""
    published: Published = Published()
    """Published figures."""
    notes: list[str] = []
    """What is surprising in the original, and what we chose; printed by ``clipwise explain``."""
    seed: int = 0
    """Seed of all random numbers."""
    deterministic: bool = False
    """Ask torch for deterministic kernels."""

    # -- data
    train_data: str | None = None
    """List file or folder (one sub-folder a class) to train on."""
    val_data: str | None = None
    """List or folder for validation during training."""
    test_data: str | None = None
    """List or folder for ``clipwise test``; the validation list if not given."""
    data_root: str | None = None
    """Prepended to the paths in the lists; the list's own folder if not given."""
    val_data_root: str | None = None
    """The same for the validation and test lists, if it is another folder."""
    num_train_samples: Count | None = None
    """Size of the published training list, for ``explain`` without data."""
    num_workers: Annotated[int, Field(ge=0)] = 2
    """Loader processes a device."""

    # -- optimization
    epochs: Count = 1
    """Passes over the training list."""
    batch_size: Count = 8
    """Samples a device and step."""
    accumulate: Count = 1
    """Steps whose gradients are summed before the optimizer moves."""
    base_batch_size: Count | None = None
    """Global batch for which `lr` is meant; used by `auto_scale_lr`."""
    auto_scale_lr: bool = False
    """Multiply `lr` by (global batch) / `base_batch_size`."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Optimizer."""
    lr: Positive = 0.01
    """Learning rate at `base_batch_size`."""
    momentum: Fraction = 0.9
    """Momentum of SGD."""
    nesterov: bool = False
    """Nesterov form of SGD's momentum."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Moments of Adam and AdamW."""
    weight_decay: NonNegative = 1e-4
    """Weight decay."""
    param_groups: Literal["all", "no_norm_bias", "tsm"] = "all"
    """`all`: decay hits everything (SlowOnly, TSN, TPN); `no_norm_bias`: not norms and biases; `tsm`: TSM's seven groups."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Learning rate of a stage is multiplied by this for each stage between it and the head."""
    grad_clip: Positive | None = None
    """Largest total L2 norm of the gradients."""
    lr_schedule: Literal["constant", "step", "cosine"] = "step"
    """How the learning rate falls."""
    milestones: list[NonNegative] = []
    """Epochs after which `step` multiplies by `gamma`."""
    gamma: Positive = 0.1
    """Factor of `step`."""
    min_lr: NonNegative = 0.0
    """Where `cosine` ends."""
    schedule_by: Literal["epoch", "iteration"] = "epoch"
    """How often the schedule (not the warm-up) moves."""
    warmup_epochs: NonNegative = 0.0
    """Length of the linear warm-up."""
    warmup_start: Fraction = 0.1
    """Factor at which the warm-up starts."""
    shift_schedule: bool = False
    """Start the schedule after the warm-up (MMAction2 1.x) instead of under it (0.x)."""
    amp: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision."""
    loss_scale: Positive | None = None
    """Fixed loss scale of `amp: fp16`; it follows the gradients if not given."""
    compile: bool = False
    """Use torch.compile."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Several processes: each holds the whole network, or a part of its weights and moments (FSDP2)."""
    static_graph: bool = False
    """Promise `ddp` that every step uses the same parameters in the same order; it then overlaps more."""
    fused: bool = False
    """Let one kernel do the optimizer's whole step."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Keep an exponential moving average of the weights, and validate and save it."""

    # -- bookkeeping
    validate_every: Count = 1
    """Epochs between validations (the last epoch is always validated)."""
    checkpoint_every: Count = 1
    """Epochs between checkpoints."""
    checkpoint_every_steps: Count | None = None
    """Also write the resumable checkpoint every so many steps."""
    keep_checkpoints: Annotated[int, Field(ge=0)] = 0
    """How many of the epochs' checkpoints stay beside `last` and `best`."""
    log_every: Count = 20
    """Steps between two log lines."""
    hang_warning_s: Positive | None = 600.0
    """Report a rank that makes no progress for so many seconds."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow", "swanlab"]] = []
    """Where the figures go besides the run's own files."""

    @model_validator(mode="after")
    def _consistent(self):
        if self.milestones and self.lr_schedule != "step":
            raise ValueError(
                f"milestones are given, but lr_schedule is {self.lr_schedule!r}; milestones need lr_schedule: step"
            )
        if self.loss_scale is not None and self.amp != "fp16":
            raise ValueError(f"loss_scale is for amp: fp16, but amp is {self.amp}")
        if self.parallel == "fsdp" and self.amp == "fp16":
            raise ValueError("parallel: fsdp works with amp: bf16 or no, not with fp16")
        if self.parallel == "fsdp" and self.static_graph:
            raise ValueError("static_graph is for parallel: ddp")
        if self.layer_decay is not None and self.param_groups == "tsm":
            raise ValueError("layer_decay needs param_groups: all or no_norm_bias; tsm has its own factors")
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError(f"nesterov: true needs optimizer: sgd, not {self.optimizer}")
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs:g}) must be shorter than epochs ({self.epochs})")
        return self


class RecognitionRecipe(RunRecipe):
    """A recognizer: what happens in a clip."""

    task: Literal["recognition"] = "recognition"
    """Which kind of recipe this is."""

    # -- model
    model: str
    """Name of a function in ``clipwise.models`` (``clipwise info MODEL``)."""
    model_args: dict[str, Any] = {}
    """Its keyword arguments."""
    num_classes: Annotated[int, Field(ge=2)] | None = None
    """Number of classes; read from the data if not given."""
    init: str | None = None
    """Weights to start from: a checkpoint, a 2-D ImageNet ResNet file, a name in the zoo, or `imagenet`."""
    init_first_conv: Literal["average", "random"] = "average"
    """A first convolution with other input channels: `average` the RGB filters and repeat (the papers), or leave it `random` (MMAction2)."""
    grad_checkpointing: bool = False
    """Compute activations twice to save memory."""
    sync_bn: bool = False
    """Batch statistics over all devices."""
    precise_bn_samples: Annotated[int, Field(ge=0)] = 0
    """Recompute the batch norm statistics on so many training samples before each validation."""

    # -- what the data is
    list_format: str = "auto"
    """How the lists are written (``clipwise.data.lists``)."""
    multi_label: bool = False
    """Samples may have several labels."""
    modality: Literal["rgb", "flow"] = "rgb"
    """Flow needs frame folders."""
    filename_tmpl: str | None = None
    """Name of a frame in a folder; `img_{:05}.jpg` for RGB and `{}_{:05d}.jpg` for flow if not given."""
    start_index: Annotated[int, Field(ge=0)] = 1
    """Number of the first frame file."""
    decode_timeout_s: Positive | None = 60.0
    """Give up on a file after so many seconds."""
    mean: list[float] = [123.675, 116.28, 103.53]
    """Subtracted from the pixels (0-255), one value a channel."""
    std: list[Positive] = [58.395, 57.12, 57.375]
    """Divides the pixels."""

    # -- which frames
    sampling: Literal["uniform", "dense", "paddle"] = "uniform"
    """`uniform`: MMAction2's SampleFrames; `dense`: starts within 64 frames; `paddle`: seed TSN's reader."""
    clip_len: Count = 1
    """Frames of a clip, or of a segment (stacked in the channels for flow TSN)."""
    frame_interval: Count = 1
    """Frames from one sampled frame to the next."""
    num_segments: Count | None = None
    """TSN and TSM: segments of a sample, which make the T axis. None: T is `clip_len` (SlowOnly)."""
    keep_tail_frames: bool = False
    """Let training clips reach the last frames."""
    target_fps: Positive | None = None
    """Sample as if every video had this frame rate."""
    out_of_bound: Literal["loop", "repeat_last"] = "loop"
    """What follows the end of a short video."""
    test_rule: Literal["mmaction2_0.x", "mmaction2_1.x"] = "mmaction2_0.x"
    """How clips are spread at test; the published 0.x numbers belong to the first."""
    test_num_segments: Count | None = None
    """Segments at test; as in training if not given."""
    test_num_clips: Count = 1
    """Clips of a video at test."""
    twice_sample: bool = False
    """At test also sample at the segments' starts."""

    # -- pixels in training
    train_resize: Size = 256
    """Short side, or [width, height], or null for the stored size."""
    resize_rule: Literal["short_side", "paddle_4x3"] = "short_side"
    """`paddle_4x3`: PaddleCV's stretch to a 4:3 picture; the short sides below are then its short side."""
    train_crop: Literal["random_resized", "multi_scale", "random", "center"] = "random_resized"
    """How a training crop is drawn."""
    crop_size: Size = 224
    """Side of the network's input in training, or [width, height]."""
    crop_area: tuple[Fraction, Fraction] = (0.08, 1.0)
    """Share of the picture that `random_resized` keeps."""
    crop_ratio: tuple[Positive, Positive] = (0.75, 4 / 3)
    """Its aspect ratios."""
    crop_scales: list[Fraction] = [1, 0.875, 0.75, 0.66]
    """Scales of `multi_scale`."""
    num_fixed_crops: Literal[5, 13] = 13
    """Places of `multi_scale`."""
    max_scale_gap: Annotated[int, Field(ge=0)] = 1
    """How far the two scales of `multi_scale` may differ."""
    flip: Fraction = 0.5
    """Probability of a mirrored training clip."""
    flip_label_map: Literal["sthv1", "sthv2", "jester"] | dict[int, int] | None = None
    """Labels that change places in a mirror."""
    color_jitter: Literal["mmaction2_0.24", "mmaction2_0.16"] | None = None
    """Color changes: the generation of MMAction2 that defines them."""
    rand_augment: tuple[Count, NonNegative] | None = None
    """RandAugment's (operations, magnitude)."""
    random_erasing: Fraction = 0.0
    """Probability of an erased rectangle."""
    mixup: NonNegative = 0.0
    """Alpha of Mixup; 0 is off."""
    cutmix: NonNegative = 0.0
    """Alpha of CutMix; 0 is off."""
    label_smoothing: Fraction = 0.0
    """Share of the label that is spread over all classes."""
    interpolation: Literal["antialias", "opencv"] = "antialias"
    """`opencv` is MMAction2's bilinear resize without anti-aliasing, bit for bit."""
    fused_resize: bool = True
    """Resize once, from the crop's box in the stored picture; false: resize, crop, resize as MMAction2."""

    # -- pixels in validation and test
    val_resize: Size = 256
    """As `train_resize`, in validation."""
    val_crop: Literal["center", "three", "ten"] = "center"
    """Crops of a video in validation."""
    val_crop_size: Size = 224
    """Side of a validation crop."""
    test_resize: Size = 256
    """As `train_resize`, at test."""
    test_crop: Literal["center", "three", "ten"] = "center"
    """Crops of a video at test."""
    test_crop_size: Size = 224
    """Side of a test crop."""
    average_clips: Literal["prob", "score", "none"] = "prob"
    """Average the views' softmax, their raw scores, or nothing."""
    eval_batch_size: Count | None = None
    """Videos a step in validation; as in training if not given."""
    max_views: Count | None = None
    """Views that go through the network at once at test; chosen by the input's size if not given."""
    allow_missing: bool = False
    """At test count files that can't be decoded as wrong instead of failing."""

    # -- more sources, more teachers
    sources: list[Source] = []
    """Auxiliary sources (OmniSource)."""
    class_power: Fraction | None = None
    """As in a source, for the main list."""
    soft_labels: str | None = None
    """File of class probabilities instead of the training list's labels (``clipwise.engine.soft_labels``)."""
    distill_from: str | None = None
    """Checkpoint of a teacher, which sees the same pixels and knows the same classes."""
    distill_weight: Fraction = 0.5
    """Share of the teacher's term in the loss."""
    distill_temperature: Positive = 1.0
    """Softens both sides of the teacher's term."""

    @model_validator(mode="after")
    def _consistent_recognition(self):
        channels = self.model_args.get("in_channels", 3 if self.modality == "rgb" else None)
        expected = (2 if self.modality == "flow" else 3) * (self.clip_len if self.num_segments else 1)
        if channels is not None and channels != expected:
            raise ValueError(
                f"model_args.in_channels is {channels}, but modality {self.modality} with clip_len {self.clip_len}"
                f"{' stacked in each segment' if self.num_segments else ''} gives {expected} channels"
            )
        if len(self.mean) != len(self.std) or len(self.mean) != (2 if self.modality == "flow" else 3):
            raise ValueError(
                f"mean and std need {2 if self.modality == 'flow' else 3} values each for modality {self.modality}"
            )
        if self.modality == "flow" and (self.color_jitter or self.rand_augment):
            raise ValueError("color_jitter and rand_augment change colors; with modality: flow they must be off")
        if self.multi_label and (self.distill_from or self.soft_labels):
            raise ValueError(
                "distill_from and soft_labels are for one label a sample; with multi_label they must be off"
            )
        if self.flip_label_map and (self.soft_labels or any(source.soft_labels for source in self.sources)):
            raise ValueError(
                "flip_label_map changes labels in a mirror, which it can't do to soft_labels; give one of them"
            )
        if self.test_num_clips > 1 and self.num_segments and self.sampling == "uniform":
            raise ValueError(
                "test_num_clips needs clips (SlowOnly) or dense sampling; for segments use test_num_segments or twice_sample"
            )
        return self
