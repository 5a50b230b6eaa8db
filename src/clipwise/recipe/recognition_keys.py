"""The keys of a recognition recipe, with their defaults, and what ``--modern`` changes in them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clipwise.errors import RecipeError
from clipwise.io.text import plural
from clipwise.recipe.consistency import consistent_recognition
from clipwise.recipe.keys import (
    Count,
    CountOrZero,
    Fraction,
    Frames,
    NonNegative,
    Only,
    Positive,
    RunRecipe,
    Size,
    Strict,
    Validation,
)


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
    train_subset: str | None = None
    """The part to train on, of annotations that have several in one file."""
    val_subset: str | None = None
    """The part to validate and test on, of annotations that have several in one file."""
    fps: Positive | None = None
    """Frames per second of annotations that count frames and do not say (Label Studio: the declared rate)."""
    layer: str | None = None
    """Which labels to take where annotations have several kinds: a tier of ELAN, an attribute of VIA or CVAT, verb or noun, …"""
    config: str | None = None
    """Label Studio's labeling configuration, if it does not lie beside the export."""


class Input(Strict):
    """How a video becomes the network's input, in training and afterwards."""

    mean: list[float] = [123.675, 116.28, 103.53]  # noqa: RUF012 - pydantic copies it
    """Subtracted from the pixels (0-255), one value a channel."""
    std: list[Positive] = [58.395, 57.12, 57.375]  # noqa: RUF012 - pydantic copies it
    """Divides the pixels."""
    interpolation: Literal["antialias", "opencv", "bicubic", "float"] = "antialias"
    """`opencv` is MMAction2's bilinear resize without anti-aliasing, bit for bit; `bicubic` has anti-aliasing, `float` is `antialias`
    without rounding to whole pixel values."""
    fused_resize: bool = True
    """Resize once, from the crop's box in the stored frame; false: resize, crop, resize as MMAction2."""
    resize_rule: Literal["short_side", "short_side_floor", "torchvision", "fit", "paddle_4x3"] = "short_side"
    """What a resize means: to one number, the short side (the long one rounded, or with `short_side_floor` and `torchvision` cut to whole pixels; the last rounds the center crop's place) or
    `paddle_4x3` (PaddleCV's stretch to a 4:3 frame of that short side); to a pair, a fixed size, or with `fit` the largest of the
    frame's shape that fits into it."""
    target_fps: Positive | None = None
    """Sample as if every video had this frame rate."""
    out_of_bound: Literal["loop", "repeat_last"] = "loop"
    """What follows the end of a short video."""
    keep_tail_frames: bool = False
    """Let training clips reach the last frames."""
    temporal_jitter: bool = False
    """Shift every frame of a training clip by a random number below `frame_interval`."""
    video_backend: Literal["pyav", "torchcodec"] = "pyav"
    """Decoder of video files; `torchcodec` needs the extra `codec`; files of which it gives other frames are read by PyAV."""
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
    crop_scales: Annotated[list[Fraction], Only("augment.crop", "multi_scale")] = [1, 0.875, 0.75, 0.66]  # noqa: RUF012 - pydantic copies it
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
    repeat: Count = 1
    """Clips drawn from a video each time it is decoded; a batch then holds `batch_size` / `repeat` videos."""
    also: list[str] = []  # noqa: RUF012 - pydantic copies it
    """Registered transforms of your own, in their order (docs/en/models.md)."""


class Multigrid(Strict):
    """Training on smaller clips first, or in turn (docs/en/training.md)."""

    shapes: Literal["long", "short", "long_short", "progressive"] | None = None
    """`long`: 1/4, 1/2, 1/2 and all of the frames at 1/√2, 1/√2, 1 and 1 of `crop_size`; `short`: one step after the other at 1/2, 1/√2
    and 1 of it; `long_short`: both (Wu et al. 2020); `progressive`: as `frames` and `sizes` say."""
    cycles: Annotated[Count, Only("multigrid.shapes", "long", "long_short")] = 1
    """Long cycles of a run; with `lr_schedule: step` there is one for each of its stages, and the last stage has whole clips."""
    frames: Annotated[dict[NonNegative, Count], Only("multigrid.shapes", "progressive")] = {}  # noqa: RUF012 - pydantic copies it
    """Frames of a clip (or segments) from an epoch on, `{0: 4, 20: 8}`."""
    sizes: Annotated[dict[NonNegative, Size], Only("multigrid.shapes", "progressive")] = {}  # noqa: RUF012 - pydantic copies it
    """`crop_size` from an epoch on, `{0: 112, 10: 160, 20: 224}`."""
    grow_batch: Annotated[bool, Only("multigrid.shapes")] = True
    """Smaller clips make larger batches (by a whole factor), so that every step costs the same and fewer are taken."""
    lr_scaling: Annotated[Literal["linear", "sqrt", "none"], Only("multigrid.grow_batch")] = "linear"
    """How the learning rate follows the long cycle's batch; the short cycle's leaves it alone."""
    split_norms: Annotated[bool, Only("multigrid.grow_batch")] = True
    """Batch norm takes its statistics over `batch_size` clips, however large the batch is."""


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

    num_segments: Annotated[Frames | None, Only("num_segments")] = None
    """Segments; as in training if not given."""
    num_clips: Frames = 1
    """Clips of a video."""
    twice_sample: bool = False
    """Also sample at the segments' starts."""
    rule: Literal["mmaction2_0.x", "mmaction2_1.x", "transformers"] = "mmaction2_0.x"
    """How clips are spread; the published 0.x numbers belong to the first, `transformers` samples as its video processors do."""
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
    loss: str | None = None
    """A registered loss of your own (docs/en/models.md); cross-entropy, or of several labels binary, if not given."""
    modality: Literal["rgb", "flow"] = "rgb"
    """Flow needs frame folders."""
    clip_len: Frames = 1
    """Frames of a clip, or of a segment (stacked in the channels for flow TSN)."""
    frame_interval: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Frames from one sampled frame to the next."""
    num_segments: Frames | None = None
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
    sources: list[Source] = []  # noqa: RUF012 - pydantic copies it
    """Auxiliary sources (OmniSource)."""
    lists: Lists = Lists()
    input: Input = Input()
    augment: Augment = Augment()
    multigrid: Multigrid = Multigrid()
    val: RecognitionValidation = RecognitionValidation()
    test: Test = Test()
    distill: Distill = Distill()

    _consistent_recognition = model_validator(mode="after")(consistent_recognition)

    def input_facts(self) -> dict[str, str]:
        """What a network of this recipe looks at, in plain figures."""
        crops, test = {"center": 1, "three": 3, "ten": 10}[self.test.crop], self.test
        if self.num_segments:
            train = plural(self.num_segments, "segment") + (f" x {self.clip_len} frames" if self.clip_len > 1 else "")
            frames = test.num_segments or self.num_segments
        else:
            train, frames = f"{plural(self.clip_len, 'frame')}, every {self.frame_interval}.", self.clip_len
        clips = test.num_clips * (2 if test.twice_sample else 1)
        facts = {"training input": f"{train}, {self.crop_size} px"}
        if self.multigrid.shapes:
            from clipwise.recipe.clip_shapes import shape_stages

            facts |= {f"  {s.start:.0%} to {s.end:.0%} of the run": str(s) for s in shape_stages(self)}
        return facts | {
            "test views": f"{clips * crops} = {plural(clips, 'clip')} x {plural(crops, 'crop')} of {plural(frames, 'frame')} at {test.crop_size} px, "
            f"averaged as {test.average_clips}; clips placed by the rule of {test.rule}",
        }


def modern_overrides(recipe: RunRecipe) -> list[str]:
    """The modern training recipe for any recognizer, as overrides (``clipwise train RECIPE --modern``).

    What PP-TSN and PP-TSM added to the old schedules, and what image training does since: a cosine by iteration
    with a warm-up, Mixup, label smoothing, an average of the weights, no decay on norms and biases, stochastic depth.
    """
    if not isinstance(recipe, RecognitionRecipe):
        raise RecipeError("--modern is for recognizers; a localization recipe has no such variant.")
    changes = [
        "lr_schedule=cosine",
        "schedule.milestones=[]",
        "schedule.by=iteration",
        f"warmup_epochs={min(5.0, recipe.epochs / 10):g}",
        "schedule.warmup_start=0.05",
        "augment.label_smoothing=0.1",
        "ema_decay=0.999",
        "model_args.drop_path=0.1",
    ]
    if not recipe.multi_label:
        changes.append("augment.mixup=0.2")
    if recipe.optim.param_groups == "all":
        changes.append("optim.param_groups=no_norm_bias")
    return changes
