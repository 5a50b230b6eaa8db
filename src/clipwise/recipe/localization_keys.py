"""The keys of a localization recipe, with their defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clipwise.recipe.consistency import consistent_localization
from clipwise.recipe.keys import Count, Fraction, NonNegative, Only, Positive, RunRecipe, Strict, Validation


class FeatureInput(Strict):
    """How feature files and annotations are read."""

    format: Literal["auto", "csv", "npy", "npz", "pkl", "pickle", "pt", "h5", "hdf5"] = "auto"
    """Which files to take where a folder holds several kinds."""
    channels_first: bool = False
    """Features are (feat_dim, positions), as MS-TCN's archives of 50Salads, GTEA and Breakfast have them."""
    rescale: Literal["linear", "bsn", "pool", "max_pool", "roi_align", "none"] = "linear"
    """How a sequence of another length becomes `temporal_dim` positions (``clipwise.data.rescale``)."""
    time_base: Literal["duration", "snippets", "strides", "starts"] = "duration"
    """What the positions divide: the whole video; its whole snippets of 16 frames (BSN, JJBOY, MMAction2); or what `stride` and
    `clip_frames` say, a position standing for the middle of its clip (ActionFormer, TriDet). `starts`: the whole video, each of `temporal_dim`
    rescaled positions standing for its part's start instead of its middle (OpenTAD's resized features)."""
    stride: Annotated[Count | None, Only("input.time_base", "strides")] = None
    """Frames from one feature to the next."""
    clip_frames: Annotated[Count | None, Only("input.time_base", "strides")] = None
    """Frames that a feature sees; as `stride` if not given."""
    feature_fps: Annotated[Positive | None, Only("input.time_base", "strides")] = None
    """Frame rate at which the features were made; that of each video, from the annotations, if not given."""
    in_memory: bool = False
    """Read all features once instead of at each visit."""
    train_subset: str = "training"
    """Name of the annotated subset to train on."""
    video_info: str | None = None
    """CSV with the columns video, subset (and duration), where annotations lack them; found beside them if not given."""
    videos: str | None = None
    """Folder of the videos, where annotations count frames or lack the videos' lengths."""
    fps: Positive | None = None
    """Frames per second of annotations that count frames and do not say (Label Studio: the declared rate)."""
    layer: str | None = None
    """Which labels to take where annotations have several kinds: a tier of ELAN, an attribute of VIA or CVAT, verb or noun, …"""
    config: str | None = None
    """Label Studio's labeling configuration, if it does not lie beside the export."""
    tolerant: bool = False
    """Accept segments of no length or past the video's end, and videos without any, instead of stopping."""
    allow_missing: bool = False
    """Leave out videos without features instead of stopping."""
    drop_last: bool = False
    """Leave out the last, smaller batch of an epoch."""


class LocalizationValidation(Validation):
    """Validation during training."""

    annotations: str | None = None
    """Annotation file of the validation videos, if it is another one."""
    subset: str = "validation"
    """Name of the annotated subset to validate on."""
    tious: list[Fraction] | None = None
    """Overlaps over which mAP is averaged; those of ActivityNet (0.5, 0.55, … 0.95) if not given."""


class Bmn(Strict):
    """Conventions of BMN: whose labels, losses and proposals."""

    targets: Literal["paddle", "mmaction2", "jjboy", "opentad"] = "paddle"
    """Whose boundary labels (``clipwise.tasks.bmn_targets``)."""
    losses: Literal["paddle", "mmaction2", "jjboy", "opentad"] = "mmaction2"
    """Whose loss rules."""
    loss_weights: tuple[NonNegative, NonNegative, NonNegative] = (1.0, 10.0, 1.0)
    """Weights of the boundary, regression and classification terms."""
    proposals: Literal["paddle", "filled", "mmaction2", "jjboy"] = "paddle"
    """Whose rule says which start-end pairs become proposals (``clipwise.tasks.proposals``)."""
    scores: Literal["all", "map"] = "all"
    """Of what a proposal's score is the product: start, end and both scores of the map; or the map's two (OpenTAD's detections)."""


class Points(Strict):
    """Localizers whose points name and span segments (ActionFormer, TriDet)."""

    ranges: list[tuple[NonNegative, NonNegative]] | None = None
    """For each level, the smallest and largest distance to a segment's farther end for which its points stand, in positions; 0-4, 4-8,
    8-16, … if not given."""
    radius: Positive = 1.5
    """How far from a segment's middle its points may lie, in strides of their level."""
    class_agnostic: bool = False
    """Learn one class, whatever the labels say; something else names what is found. Needs `model_args.num_classes: 1`."""
    label_smoothing: Fraction = 0.0
    """Share of the label that is spread over all classes."""
    distance_weight: NonNegative = 1.0
    """Weight of the distances' term in the loss."""
    iou_power: Annotated[NonNegative, Only("model", "tridet")] = 0.2
    """The IoU of a positive point's segment, to this power, weighs its classification."""
    loss_norm: Positive = 100.0
    """First value of the running number of positive points that divides the loss."""
    crop: tuple[Fraction, Fraction] = (0.9, 1.0)
    """Share of a video that training sees; of one longer than `temporal_dim` it sees that many positions."""
    crop_margin: NonNegative = 0.0
    """Positions by which segments may reach over a crop's edges: half of a feature's clip, in positions."""
    min_inside: Fraction = 0.5
    """Smallest share of a segment that must lie in a crop for it to be learned there."""
    min_candidate: Fraction = 0.001
    """Score above which a point and class become a candidate."""
    candidates: Count = 2000
    """Most candidates of a level."""
    min_length: NonNegative = 0.05
    """Candidates must be longer, in positions."""


_POINT_MODELS = Only("model", "actionformer", "tridet")


class Nms(Strict):
    """Soft-NMS of the proposals."""

    method: Annotated[Literal["gaussian", "linear", "vanilla", "hard"], _POINT_MODELS] = "gaussian"
    """How a kept segment lowers the scores of those that overlap it (``clipwise.tasks.nms``)."""
    alpha: Positive = 0.4
    """Width of the Gaussian."""
    threshold: Annotated[Fraction, Only("nms.method", "linear", "vanilla", "hard")] = 0.5
    """IoU from which the other methods act."""
    min_score: Annotated[Fraction, _POINT_MODELS] = 0.001
    """Segments whose score falls below it leave."""
    class_wise: Annotated[bool, _POINT_MODELS] = True
    """Segments of different classes do not touch each other."""
    voting: Annotated[Fraction | None, Only("model", "actionformer", "tridet", "bmn")] = None
    """Each kept segment becomes the weighted mean of the candidates (BMN: of all cells) with at least this IoU; without `class_wise` only."""
    voting_weights: Annotated[Literal["score_iou", "score"], Only("model", "actionformer", "tridet", "bmn")] = (
        "score_iou"
    )
    """Weights of the vote: score times IoU (ActionFormer), or the score (TriDet)."""
    low: Fraction | None = None
    """Overlap threshold for neighbors of short proposals; the rule's own if not given."""
    high: Fraction = 0.9
    """Overlap threshold for neighbors of proposals as long as the video."""
    max_proposals: Count = 100
    """Proposals kept for a video."""


class Windows(Strict):
    """How `window_s` cuts long videos."""

    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of a window that the next one sees as well."""
    min_inside: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Smallest share of a segment that must lie in a window for it to be learned there."""
    background: NonNegative = 0.5
    """Most windows without a segment in training, as a share of those with one."""
    least: Annotated[int, Field(ge=0)] = 0
    """About as many windows come in an epoch, at least: of few training videos each several times, shifted elsewhere."""


class LocalizationRecipe(RunRecipe):
    """A localizer: when something happens in a long video."""

    task: Literal["localization"]
    """Which kind of recipe this is."""
    model: str = "bmn"
    """Name of a localizer, or `package.module:function` or `./file.py:function` of your own."""
    features: str | None = None
    """Folder with one feature file per video, or one .npz or .npy with all; a path in the data folder or elsewhere."""
    annotations: str | None = None
    """Annotation file or folder (docs/en/annotations.md lists the formats); found in the data folder if not given."""
    feat_dim: Count | Literal["auto"] = 400
    """Channels of a feature position; auto: those of the features."""
    temporal_dim: Count | Literal["auto"] = 100
    """Positions of a video after rescaling, or of a window; auto: from the training data."""
    window_s: Positive | Literal["auto"] | None = None
    """Seconds of the overlapping windows into which videos are cut; auto: from the training data; none: each video as a whole."""
    input: FeatureInput = FeatureInput()
    val: LocalizationValidation = LocalizationValidation()
    windows: Annotated[Windows, Only("window_s")] = Windows()
    nms: Nms = Nms()
    bmn: Annotated[Bmn, Only("model", "bmn")] = Bmn()
    points: Annotated[Points, _POINT_MODELS] = Points()

    _consistent_localization = model_validator(mode="after")(consistent_localization)
