"""What ``clipwise train RECIPE --modern`` changes in a recipe."""

from __future__ import annotations

from clipwise.errors import RecipeError
from clipwise.recipe.keys import RecognitionRecipe
from clipwise.recipe.localization_keys import LocalizationRecipe


def modern_overrides(recipe: RecognitionRecipe | LocalizationRecipe) -> list[str]:
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
