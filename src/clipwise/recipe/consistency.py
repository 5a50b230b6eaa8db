"""Values that contradict each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationInfo

if TYPE_CHECKING:
    from clipwise.recipe.keys import RunRecipe
    from clipwise.recipe.localization_keys import LocalizationRecipe
    from clipwise.recipe.recognition_keys import RecognitionRecipe


def no_truth_for_numbers(cls: type[BaseModel], value: Any, info: ValidationInfo) -> Any:
    """``lr=true`` is a mistake; pydantic would take 1."""
    if isinstance(value, bool) and "bool" not in str(cls.model_fields[str(info.field_name)].annotation):
        raise ValueError("true and false are no numbers")
    return value


def consistent(recipe: RunRecipe) -> RunRecipe:
    """Check what every run has; raises ValueError, which becomes a line of the recipe's problems."""
    if recipe.parallel.mode == "fsdp" and recipe.amp == "fp16":
        raise ValueError("parallel.mode: fsdp works with amp: bf16 or no, not with fp16")
    if recipe.optim.layer_decay is not None and recipe.optim.param_groups == "tsm":
        raise ValueError("optim.layer_decay needs optim.param_groups: all or no_norm_bias; tsm has its own factors")
    if recipe.optim.first_stage_decay != 1 and recipe.optim.param_groups == "tsm":
        raise ValueError(
            "optim.first_stage_decay needs optim.param_groups: all or no_norm_bias; tsm has its own factors"
        )
    if recipe.warmup_epochs >= recipe.epochs and recipe.warmup_epochs > 0:
        raise ValueError(
            f"warmup_epochs ({recipe.warmup_epochs:g}) must be shorter than epochs ({recipe.epochs}); "
            "warmup_epochs=0 turns the warm-up off"
        )
    return recipe


def consistent_recognition(recipe: RecognitionRecipe) -> RecognitionRecipe:
    """Check a recognizer's keys."""
    pixel_channels = 2 if recipe.modality == "flow" else 3
    channels = recipe.model_args.get("in_channels", 3 if recipe.modality == "rgb" else None)
    expected = pixel_channels * (recipe.clip_len if recipe.num_segments else 1)
    if channels is not None and channels != expected:
        raise ValueError(
            f"model_args.in_channels is {channels}, but modality {recipe.modality} with clip_len {recipe.clip_len}"
            f"{' stacked in each segment' if recipe.num_segments else ''} gives {expected} channels"
        )
    if len(recipe.input.mean) != len(recipe.input.std) or len(recipe.input.mean) != pixel_channels:
        raise ValueError(f"input.mean and input.std need {pixel_channels} values each for modality {recipe.modality}")
    if recipe.modality == "flow" and (recipe.augment.color_jitter or recipe.augment.randaugment):
        raise ValueError(
            "augment.color_jitter and augment.randaugment change colors; with modality: flow they must be off"
        )
    if recipe.multi_label and (recipe.distill.from_ or recipe.lists.soft_labels):
        raise ValueError(
            "distill.from and lists.soft_labels are for one label a sample; with multi_label they must be off"
        )
    if recipe.augment.flip_label_map and (
        recipe.lists.soft_labels or any(source.soft_labels for source in recipe.sources)
    ):
        raise ValueError(
            "augment.flip_label_map changes labels under a flip, which is impossible for soft_labels; give one of them"
        )
    if recipe.multigrid.shapes or recipe.augment.repeat > 1:
        from clipwise.recipe.clip_shapes import check_shapes

        check_shapes(recipe)
    if recipe.test.num_clips > 1 and recipe.num_segments and recipe.sampling == "uniform":
        raise ValueError(
            "test.num_clips needs clips (SlowOnly) or dense sampling; for segments use test.num_segments or test.twice_sample"
        )
    return recipe


def consistent_localization(recipe: LocalizationRecipe) -> LocalizationRecipe:
    """Check a localizer's keys."""
    for key in ("feat_dim", "temporal_dim"):
        if key in recipe.model_args and recipe.model_args[key] != getattr(recipe, key):
            raise ValueError(
                f"{key} is {getattr(recipe, key)} but model_args.{key} is {recipe.model_args[key]}; give it once, as {key}"
            )
    if recipe.input.time_base == "strides" and recipe.input.stride is None:
        raise ValueError("input.time_base: strides needs input.stride, the frames from one feature to the next")
    if recipe.input.time_base == "starts" and recipe.input.rescale == "none":
        raise ValueError(
            "input.time_base: starts is for features rescaled to temporal_dim; set input.rescale=roi_align"
        )
    if isinstance(recipe.window_s, float) and recipe.input.rescale not in ("linear", "none"):
        raise ValueError(
            f"input.rescale is {recipe.input.rescale}, which is for whole videos; with window_s it must be linear"
        )
    layout = recipe.model_args.get("layout", "duration_start")
    if layout == "start_end" and recipe.model_args.get("max_duration", recipe.temporal_dim) != recipe.temporal_dim:
        raise ValueError("model_args.layout start_end needs max_duration equal to temporal_dim")
    return recipe
