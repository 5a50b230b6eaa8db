"""The keys of a localization recipe, with their defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from clipwise.recipe.consistency import consistent_localization
from clipwise.recipe.keys import Count, Fraction, NonNegative, Only, Positive, RunRecipe, Strict, Validation


class FeatureInput(Strict):
    """How feature files and annotations are read."""

    format: Literal["auto", "csv", "npy", "npz", "pkl", "pt"] = "auto"
    """Which files to take where a folder holds several kinds."""
    rescale: Literal["linear", "bsn", "pool", "max_pool", "none"] = "linear"
    """How a sequence of another length becomes `temporal_dim` positions (``clipwise.data.rescale``)."""
    time_base: Literal["duration", "snippets"] = "duration"
    """What the positions divide: the whole video, or its whole snippets of 16 frames (BSN, JJBOY, MMAction2)."""
    in_memory: bool = False
    """Read all features once instead of at each visit."""
    train_subset: str = "training"
    """Name of the annotated subset to train on."""
    video_info: str | None = None
    """CSV with the subsets, for BSN's form; found beside the annotations if not given."""
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


class Bmn(Strict):
    """Conventions of BMN: whose labels, losses and proposals."""

    targets: Literal["paddle", "mmaction2", "jjboy", "opentad"] = "paddle"
    """Whose boundary labels (``clipwise.tasks.bmn_targets``)."""
    losses: Literal["paddle", "mmaction2", "jjboy", "opentad"] = "mmaction2"
    """Whose loss rules."""
    loss_weights: tuple[NonNegative, NonNegative, NonNegative] = (1.0, 10.0, 1.0)
    """Weights of the boundary, regression and classification terms."""
    proposals: Literal["paddle", "mmaction2", "jjboy"] = "paddle"
    """Whose rule says which start-end pairs become proposals (``clipwise.tasks.proposals``)."""


class Nms(Strict):
    """Soft-NMS of the proposals."""

    alpha: Positive = 0.4
    """Width of the Gaussian."""
    low: Fraction | None = None
    """Overlap threshold for neighbors of short proposals; the rule's own if not given."""
    high: Fraction = 0.9
    """Overlap threshold for neighbors of proposals as long as the video."""
    max_proposals: Count = 100
    """Proposals kept for a video."""


class LocalizationRecipe(RunRecipe):
    """A localizer: when something happens in a long video."""

    task: Literal["localization"]
    """Which kind of recipe this is."""
    model: str = "bmn"
    """Name of a localizer, or `package.module:function` or `./file.py:function` of your own."""
    features: str | None = None
    """Folder with one feature file a video, or one .npz or .npy with all; a path in the data folder or elsewhere."""
    annotations: str | None = None
    """Annotation file (ActivityNet's, BSN's or MMAction2's JSON); found in the data folder if not given."""
    feat_dim: Count | Literal["auto"] = 400
    """Channels of a feature position; auto: those of the features."""
    temporal_dim: Count = 100
    """Positions of a video after rescaling."""
    input: FeatureInput = FeatureInput()
    val: LocalizationValidation = LocalizationValidation()
    nms: Nms = Nms()
    bmn: Annotated[Bmn, Only("model", "bmn")] = Bmn()

    _consistent_localization = model_validator(mode="after")(consistent_localization)
