"""The keys of a recipe, with their defaults: those of every run, and those of a recognizer.

Everyday keys are flat (``lr: 0.02``), the others are in named groups, one level deep (``augment: {mixup: 0.2}``, on a
command line ``augment.mixup=0.2``).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
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


# ---------------------------------------------------------------- groups of every task


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
    betas: Annotated[tuple[Fraction, Fraction], Only("optimizer", "adam", "adamw")] = (0.9, 0.999)
    """Moments of Adam and AdamW."""
    param_groups: Literal["all", "no_norm_bias", "tsm"] = "all"
    """`all`: decay hits everything (SlowOnly, TSN, TPN); `no_norm_bias`: not norms and biases; `tsm`: TSM's seven groups."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Learning rate of a stage is multiplied by this for each stage between it and the head."""
    fused: bool = False
    """Let one kernel do the whole optimizer step."""
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
    trackers: list[Literal["tensorboard", "wandb", "mlflow", "swanlab"]] = []
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
    seed: int = 0
    """Seed of all random numbers."""
    deterministic: bool = False
    """Ask torch for deterministic kernels."""
    train_data: str | None = None
    """List file or folder to train on."""
    val_data: str | None = None
    """List or folder for validation during training."""
    data_root: str | None = None
    """Prepended to the paths in the lists; the list's own folder if not given."""
    num_workers: CountOrZero = 2
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
    compile: bool = False
    """Use torch.compile."""
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    parallel: Parallel = Parallel()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()

    @model_validator(mode="after")
    def _consistent(self):
        if self.parallel.mode == "fsdp" and self.amp == "fp16":
            raise ValueError("parallel.mode: fsdp works with amp: bf16 or no, not with fp16")
        if self.optim.layer_decay is not None and self.optim.param_groups == "tsm":
            raise ValueError("optim.layer_decay needs optim.param_groups: all or no_norm_bias; tsm has its own factors")
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs:g}) must be shorter than epochs ({self.epochs}); "
                "warmup_epochs=0 turns the warm-up off"
            )
        return self

    # ---------------------------------------------------------------- recognition

    def input_facts(self) -> dict[str, str]:
        """What a network of this recipe looks at, in plain figures."""
        return {}


class Source(Strict):
    """An auxiliary training source beside the main list (OmniSource)."""

    name: str
    """Suffix of this source's log lines."""
    kind: Literal["video", "image", "untrimmed", "rawframes"] = "video"
    """`image`: repeated to a clip; `untrimmed`: one positive clip of a cut web video a visit."""
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
    """As `lists.format` of the main list."""
    soft_labels: str | None = None
    """As `lists.soft_labels` of the main list."""


class Lists(Strict):
    """How the lists are read."""

    format: str = "auto"
    """How the lists are written (``clipwise.data.lists``)."""
    class_power: Fraction | None = None
    """Class probability in training is proportional to (its share)^power: 1 natural, 0 uniform; none: plain shuffling."""
    soft_labels: str | None = None
    """File of class probabilities instead of the training list's labels (``clipwise.engine.soft_labels``)."""


class Input(Strict):
    """How a video becomes the network's input, in training and afterwards."""

    mean: list[float] = [123.675, 116.28, 103.53]
    """Subtracted from the pixels (0-255), one value a channel."""
    std: list[Positive] = [58.395, 57.12, 57.375]
    """Divides the pixels."""
    interpolation: Literal["antialias", "opencv"] = "antialias"
    """`opencv` is MMAction2's bilinear resize without anti-aliasing, bit for bit."""
    fused_resize: bool = True
    """Resize once, from the crop's box in the stored frame; false: resize, crop, resize as MMAction2."""
    resize_rule: Literal["short_side", "paddle_4x3"] = "short_side"
    """What a resize to one number means; `paddle_4x3`: PaddleCV's stretch to a 4:3 frame of that short side."""
    target_fps: Positive | None = None
    """Sample as if every video had this frame rate."""
    out_of_bound: Literal["loop", "repeat_last"] = "loop"
    """What follows the end of a short video."""
    keep_tail_frames: bool = False
    """Let training clips reach the last frames."""
    filename_tmpl: str | None = None
    """Name of a frame in a folder; `img_{:05}.jpg` for RGB and `{}_{:05d}.jpg` for flow if not given."""
    start_index: CountOrZero = 1
    """Number of the first frame file."""
    decode_timeout_s: Positive | None = 60.0
    """Give up on a file after so many seconds."""


class Augment(Strict):
    """What training does to a clip; every frame of a clip alike."""

    resize: Size = 256
    """Size before the crop: short side, or [width, height], or null for the stored size."""
    crop: Literal["random_resized", "multi_scale", "random", "center"] = "random_resized"
    """How a crop is drawn."""
    crop_area: Annotated[tuple[Fraction, Fraction], Only("augment.crop", "random_resized")] = (0.08, 1.0)
    """Share of the frame that `random_resized` keeps."""
    crop_ratio: Annotated[tuple[Positive, Positive], Only("augment.crop", "random_resized")] = (0.75, 4 / 3)
    """Its aspect ratios."""
    crop_scales: Annotated[list[Fraction], Only("augment.crop", "multi_scale")] = [1, 0.875, 0.75, 0.66]
    """Scales of `multi_scale`."""
    num_fixed_crops: Annotated[Literal[5, 13], Only("augment.crop", "multi_scale")] = 13
    """Positions of `multi_scale`."""
    max_scale_gap: Annotated[CountOrZero, Only("augment.crop", "multi_scale")] = 1
    """How far the two scales of `multi_scale` may differ."""
    flip: Fraction = 0.5
    """Probability of a horizontal flip."""
    flip_label_map: Annotated[Literal["sthv1", "sthv2", "jester"] | dict[int, int] | None, Only("augment.flip")] = None
    """Labels that change places under a flip."""
    color_jitter: Literal["mmaction2_0.24", "mmaction2_0.16"] | None = None
    """Color changes: the generation of MMAction2 that defines them."""
    randaugment: tuple[Count, NonNegative] | None = None
    """RandAugment's (operations, magnitude)."""
    random_erasing: Fraction = 0.0
    """Probability of an erased rectangle."""
    mixup: NonNegative = 0.0
    """Alpha of Mixup; 0 is off."""
    cutmix: NonNegative = 0.0
    """Alpha of CutMix; 0 is off."""
    label_smoothing: Fraction = 0.0
    """Share of the label that is spread over all classes."""


class RecognitionValidation(Validation):
    """Validation during training."""

    data_root: str | None = None
    """`data_root` of the validation and test lists, if it is another folder."""
    resize: Size = 256
    """As `augment.resize`."""
    crop: Literal["center", "three", "ten"] = "center"
    """Crops of a video."""
    crop_size: Size = 224
    """Side of a crop, or [width, height]."""
    precise_bn_samples: CountOrZero = 0
    """Recompute the batch norm statistics on so many training samples before each validation."""


class Test(Strict):
    """``clipwise test`` and prediction: the views of a video and how they are averaged."""

    __test__ = False  # not a test class, whatever pytest thinks of the name

    num_segments: Annotated[Count | None, Only("num_segments")] = None
    """Segments; as in training if not given."""
    num_clips: Count = 1
    """Clips of a video."""
    twice_sample: bool = False
    """Also sample at the segments' starts."""
    rule: Literal["mmaction2_0.x", "mmaction2_1.x"] = "mmaction2_0.x"
    """How clips are spread; the published 0.x numbers belong to the first."""
    resize: Size = 256
    """As `augment.resize`."""
    crop: Literal["center", "three", "ten"] = "center"
    """Crops of a video."""
    crop_size: Size = 224
    """Side of a crop, or [width, height]."""
    average_clips: Literal["prob", "score", "none"] = "prob"
    """Average the views' softmax, their raw scores, or nothing; in validation too."""
    max_views: Count | None = None
    """Views that go through the network at once; chosen by the input's size if not given."""
    allow_missing: bool = False
    """Count files that cannot be decoded as wrong instead of failing."""


class Distill(Strict):
    """A teacher."""

    from_: str | None = Field(default=None, alias="from")
    """Checkpoint of the teacher, which sees the same pixels and knows the same classes."""
    weight: Annotated[Fraction, Only("distill.from")] = 0.5
    """Share of the teacher's term in the loss."""
    temperature: Annotated[Positive, Only("distill.from")] = 1.0
    """Softens both sides of the teacher's term."""


class RecognitionRecipe(RunRecipe):
    """A recognizer: what happens in a clip."""

    task: Literal["recognition"] = "recognition"
    """Which kind of recipe this is."""
    num_classes: Annotated[int, Field(ge=2)] | None = None
    """Number of classes; read from the data if not given."""
    multi_label: bool = False
    """Samples may have several labels."""
    modality: Literal["rgb", "flow"] = "rgb"
    """Flow needs frame folders."""
    clip_len: Count = 1
    """Frames of a clip, or of a segment (stacked in the channels for flow TSN)."""
    frame_interval: Count = 1
    """Frames from one sampled frame to the next."""
    num_segments: Count | None = None
    """TSN and TSM: segments of a sample, which make the T axis. None: T is `clip_len` (SlowOnly)."""
    sampling: Literal["uniform", "dense", "paddle"] = "uniform"
    """`uniform`: MMAction2's SampleFrames; `dense`: starts within 64 frames; `paddle`: PaddleCV TSN's reader."""
    crop_size: Size = 224
    """Side of the network's input in training, or [width, height]."""
    test_data: str | None = None
    """List or folder for ``clipwise test``; the validation list if not given."""
    init_first_conv: Annotated[Literal["average", "random"], Only("init")] = "average"
    """A first convolution with other input channels: `average` the RGB filters and repeat (the papers), or leave it `random` (MMAction2)."""
    grad_checkpointing: bool = False
    """Compute activations twice to save memory."""
    sync_bn: bool = False
    """Batch norm statistics over all devices."""
    sources: list[Source] = []
    """Auxiliary sources (OmniSource)."""
    lists: Lists = Lists()
    input: Input = Input()
    augment: Augment = Augment()
    val: RecognitionValidation = RecognitionValidation()
    test: Test = Test()
    distill: Distill = Distill()

    @model_validator(mode="after")
    def _consistent_recognition(self):
        pixel_channels = 2 if self.modality == "flow" else 3
        channels = self.model_args.get("in_channels", 3 if self.modality == "rgb" else None)
        expected = pixel_channels * (self.clip_len if self.num_segments else 1)
        if channels is not None and channels != expected:
            raise ValueError(
                f"model_args.in_channels is {channels}, but modality {self.modality} with clip_len {self.clip_len}"
                f"{' stacked in each segment' if self.num_segments else ''} gives {expected} channels"
            )
        if len(self.input.mean) != len(self.input.std) or len(self.input.mean) != pixel_channels:
            raise ValueError(f"input.mean and input.std need {pixel_channels} values each for modality {self.modality}")
        if self.modality == "flow" and (self.augment.color_jitter or self.augment.randaugment):
            raise ValueError(
                "augment.color_jitter and augment.randaugment change colors; with modality: flow they must be off"
            )
        if self.multi_label and (self.distill.from_ or self.lists.soft_labels):
            raise ValueError(
                "distill.from and lists.soft_labels are for one label a sample; with multi_label they must be off"
            )
        if self.augment.flip_label_map and (
            self.lists.soft_labels or any(source.soft_labels for source in self.sources)
        ):
            raise ValueError(
                "augment.flip_label_map changes labels under a flip, which is impossible for soft_labels; give one of them"
            )
        if self.test.num_clips > 1 and self.num_segments and self.sampling == "uniform":
            raise ValueError(
                "test.num_clips needs clips (SlowOnly) or dense sampling; for segments use test.num_segments or test.twice_sample"
            )
        return self

    def input_facts(self) -> dict[str, str]:
        """What a network of this recipe looks at, in plain figures."""
        crops, test = {"center": 1, "three": 3, "ten": 10}[self.test.crop], self.test
        if self.num_segments:
            train = f"{self.num_segments} segments" + (f" x {self.clip_len} frames" if self.clip_len > 1 else "")
            frames = test.num_segments or self.num_segments
        else:
            train, frames = f"{self.clip_len} frames, every {self.frame_interval}.", self.clip_len
        clips = test.num_clips * (2 if test.twice_sample else 1)
        return {
            "training input": f"{train}, {self.crop_size} px",
            "test views": f"{clips * crops} = {clips} clips x {crops} crops of {frames} frames at {test.crop_size} px, "
            f"averaged as {test.average_clips}; clips placed by the rule of {test.rule}",
        }
