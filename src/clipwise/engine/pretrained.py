"""From a name or a stranger's file to a checkpoint of ours: download, convert, keep.

``resolve`` is what ``predict``, ``test``, ``train --init`` and ``info`` call with whatever the user typed: a path, a name in
the zoo, or a file of another project.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clipwise.convert.zoo import ALIASES, CATALOGUE, Weights, find_weights
from clipwise.data.classes import class_names_for
from clipwise.data.videolist import is_video
from clipwise.engine.checkpoint import Passport, read_passport, save_weights
from clipwise.engine.checkpoint_errors import checkpoint_in
from clipwise.errors import CheckpointError, ClipwiseWarning
from clipwise.io.download import cache_folder, download, locked
from clipwise.io.hub import local_copy
from clipwise.io.names import did_you_mean
from clipwise.io.plugins import is_foreign
from clipwise.io.text import plural
from clipwise.models.recipe_model import model_args
from clipwise.models.registry import create_model, model_place
from clipwise.recipe import Recipe, list_recipes, load_recipe

FOREIGN_SUFFIXES = (".pth", ".pt", ".tar", ".ckpt", ".pdparams")


def resolve(checkpoint: str | Path, recipe: str | Recipe | None = None, *, as_it_is: bool = False) -> Path:
    """The file that a user means.

    Args:
        checkpoint: a path or ``hf:MODEL``, which is taken as it is (a run's folder stands for its ``best``, or else ``last``); a name in the zoo, which is downloaded and converted once; or an address
            (``https://…``), which is that of a name, or is downloaded once and then taken like a path; or a place on the
            hub (``hf://org/name``).
        recipe: model, preprocessing and test protocol of another project's file, which is converted (and kept in the cache);
            without one they are taken from what the file tells, with a warning that says so.
        as_it_is: leave another project's file as it is, if there is not a recipe.

    Returns:
        A ``.safetensors`` checkpoint; for ImageNet weights, and ``as_it_is``, the file itself.

    Raises:
        CheckpointError: neither a file nor a name (the nearest names are given), or it cannot be downloaded or converted.
    """
    checkpoint = local_copy(checkpoint)
    if is_foreign(checkpoint):
        return Path(checkpoint)
    if str(checkpoint).startswith(("https://", "http://")):
        checkpoint = _at_address(str(checkpoint))
    elif "://" in str(checkpoint):
        raise CheckpointError(
            f"{checkpoint}: checkpoints are not read from such addresses. Give a file, https://…, http://… or hf://org/name."
        )
    path = Path(checkpoint)
    weights = find_weights(str(checkpoint))
    if path.is_file() and is_video(path.name):
        raise CheckpointError(
            f"{path} is a video, not a checkpoint. On a command line the checkpoint comes before the videos."
        )
    if path.is_file() or (path.exists() and weights is None):
        if path.is_dir():
            return checkpoint_in(path)
        if path.suffix not in FOREIGN_SUFFIXES or (recipe is None and as_it_is):
            return path
        if recipe is None:
            from clipwise.convert.own_recipe import recipe_of_weights

            recipe, why = recipe_of_weights(path)
            warnings.warn(
                f"{path} is converted as {recipe.model}, {why}. Another recipe: clipwise convert {path} --recipe RECIPE --out "
                f"{path.stem}.safetensors",
                ClipwiseWarning,
                stacklevel=2,
            )
        return _convert_once(path, load_recipe(recipe) if isinstance(recipe, str) else recipe)
    if weights is None:
        raise CheckpointError(unknown_checkpoint(str(checkpoint)))
    if weights.recipe is None:
        return _downloaded(weights)
    recipe = load_recipe(weights.recipe)
    key = hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()[:8]
    converted = cache_folder() / "converted" / f"{weights.name}-{weights.sha256}-{key}-v{_VERSION}.safetensors"

    def convert() -> None:
        metrics = {_FIGURES[name]: round(value / 100, 6) for name, value in weights.metrics.items()}
        file = _downloaded(weights)
        try:
            convert_checkpoint(file, recipe, converted, source=weights.url, metrics=metrics)
        except CheckpointError:
            if not weights.sha256:  # nothing else could tell that another file came
                file.unlink(missing_ok=True)
            raise

    return _made_once(converted, convert)


# names of figures in the catalog and in a passport
_FIGURES = {"top1": "top1_acc", "top5": "top5_acc", "mean_class_accuracy": "mean_class_accuracy"}
# A number in the names of converted files; a change of the conversion makes old ones invalid.
_VERSION = 1


def convert_checkpoint(
    file: str | Path,
    recipe: Recipe,
    out: str | Path,
    *,
    partial: bool = False,
    source: str | None = None,
    classes: list[str] | None = None,
    metrics: dict[str, float] | None = None,
    weights_of: str | None = None,
):
    """Turn another project's file into a checkpoint with a passport.

    Args:
        file: ``.pth``, ``.pdparams``, … as ``read_foreign_checkpoint`` reads.
        recipe: gives model, preprocessing and test protocol.
        out: the ``.safetensors`` file to write.
        partial: accept missing, unused or misshapen weights.
        source: where the weights come from; the file's path if not given.
        classes: names in the order of the outputs; those of the recipe's data set if they are known.
        metrics: figures for the passport, as fractions.
        weights_of: whose BMN it is, where the file does not tell.

    Returns:
        The ``ConversionReport`` with matched, missing and unused names.

    Raises:
        CheckpointError: not readable, of another network, or incomplete without ``partial``.
    """
    from clipwise.convert.weights import convert_state_dict, load_converted, read_foreign_checkpoint

    foreign = read_foreign_checkpoint(file)
    args, differs = _foreign_model_args(recipe, foreign)
    model = create_model(recipe.model, **args)
    if recipe.task == "localization":
        from clipwise.models.localizer_rules import localizer_rules

        localizer_rules(recipe.model, args, recipe).prepare(model)
    report = convert_state_dict(foreign, model, weights_of=weights_of)
    report.notes += differs
    load_converted(model, report, partial=partial)
    values = recipe.model_dump(mode="json")
    count = args.get("num_classes")
    if recipe.task == "localization":
        values["model_args"] = {
            **recipe.model_args,
            **{k: v for k, v in args.items() if k not in ("feat_dim", "temporal_dim")},
        }
    if count:
        if recipe.task == "recognition":
            values["num_classes"] = count
        classes = classes or _names_in(foreign.meta, count) or class_names_for(recipe.name, count)
        if classes and len(classes) != count:
            raise CheckpointError(
                f"{plural(len(classes), 'class name was', 'class names were')} given, but the network has {plural(count, 'output')}."
            )
    passport = Passport(
        model_place(recipe.model),
        args,
        classes=classes,
        recipe=values,
        metrics=metrics or {},
        source=source or str(file),
    )
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    save_weights(out, model.state_dict(), passport)
    return report


def _foreign_model_args(recipe: Recipe, foreign) -> tuple[dict[str, Any], list[str]]:
    """The model's arguments with the file's number of classes, and a note where the recipe was published with another."""
    if recipe.task != "recognition":
        return _foreign_localizer_args(recipe, foreign)
    from clipwise.convert.weights import guess_model

    try:
        found = guess_model(foreign)[1].get("num_classes")
    except CheckpointError:  # a network that is not supported: the strict match that follows says why
        found = None
    count = found or recipe.num_classes or recipe.published.num_classes
    if count is None:
        raise CheckpointError(
            f"the number of classes can be seen neither in {foreign.path} nor in the recipe; set num_classes."
        )
    if found and recipe.num_classes and found != recipe.num_classes:
        raise CheckpointError(
            f"{foreign.path} has {plural(found, 'output')}, but the recipe says num_classes: {recipe.num_classes}. Give num_classes={found}, or "
            "the recipe that the file was trained with."
        )
    published = recipe.published.num_classes
    notes = [
        f"the file has {plural(found, 'output')}, the recipe's published model {published}: converted with {found}"
    ]
    return model_args(recipe, count), notes if found and published and found != published else []


def _foreign_localizer_args(recipe: Recipe, foreign: Any) -> tuple[dict[str, Any], list[str]]:
    """A localizer's arguments, with those that the file shows and the recipe leaves open; what differs from the recipe is noted."""
    from clipwise.convert.bmn_layouts import shown_settings
    from clipwise.convert.one_stage_layouts import one_stage_settings, recognize_one_stage
    from clipwise.models.registry import model_arguments

    args = model_args(recipe)
    if recognize_one_stage(foreign.tensors):
        name, shown = one_stage_settings(foreign.tensors)
        if name != recipe.model:
            raise CheckpointError(
                f"{foreign.path} holds a {name}, but the recipe is for {recipe.model}. Give a recipe of {name}."
            )
    else:
        shown = shown_settings(foreign.tensors)
    before = {**model_arguments(recipe.model), **args}
    if before.get("head_width", 0) is None:
        before["head_width"] = before.get("width")
    chosen = {
        key: value
        for key, value in shown.items()
        if key not in recipe.model_args and key not in ("feat_dim", "temporal_dim")
    }
    changed = {key: value for key, value in chosen.items() if before.get(key) != value}
    notes = [f"the file's network has {', '.join(f'{k}={v!r}' for k, v in changed.items())} (the recipe: "
             f"{', '.join(f'{k}={before.get(k)!r}' for k in changed)}): converted with the file's"] if changed else []  # fmt: skip
    if shown.get("feat_dim", args.get("feat_dim")) != args.get("feat_dim"):
        raise CheckpointError(
            f"{foreign.path} takes features of {plural(shown['feat_dim'], 'channel')}, the recipe says feat_dim {args.get('feat_dim')}; "
            f"give the file's recipe, or --set feat_dim={shown['feat_dim']}."
        )
    return {**args, **{k: v for k, v in chosen.items() if k in changed or k in ("num_classes", "padding")}}, notes


def _names_in(meta: Mapping[str, Any], count: int) -> list[str] | None:
    """Class names that MMAction2 keeps in its files (``meta.CLASSES`` in 0.x, ``meta.dataset_meta.classes`` in 1.x)."""
    inner = meta.get("meta")
    if not isinstance(inner, Mapping):
        return None
    data = inner.get("dataset_meta")
    for names in (inner.get("CLASSES"), data.get("classes") if isinstance(data, Mapping) else None):
        if isinstance(names, list | tuple) and len(names) == count and all(isinstance(name, str) for name in names):
            return list(names)
    return None


def _convert_once(path: Path, recipe: Recipe) -> Path:
    """A converted copy in the cache, named by the file's and the recipe's content."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(recipe.model_dump_json().encode())
    converted = cache_folder() / "converted" / f"{path.stem}-{digest.hexdigest()[:16]}-v{_VERSION}.safetensors"
    return _made_once(converted, lambda: convert_checkpoint(path, recipe, converted))


def _made_once(converted: Path, convert: Callable[[], Any]) -> Path:
    """Convert unless it is done; of several processes one does it. A finished file may lie in a read-only folder."""
    if not _usable(converted):
        with locked(converted.with_suffix(".lock")):
            if not _usable(converted):
                convert()
    return converted


def _usable(path: Path) -> bool:
    try:
        read_passport(path)
    except CheckpointError:
        return False
    return True


def _downloaded(weights: Weights) -> Path:
    return download(weights.url, cache_folder() / "downloads" / weights.file_name, weights.sha256)


def _at_address(url: str) -> str | Path:
    """The zoo's name of a published file, or the downloaded file."""
    known = next((weights.name for weights in CATALOGUE.values() if weights.url == url), None)
    if known:
        return known
    file = Weights("", url.split("?")[0], None, 0)  # whose name may end in a checksum
    apart = hashlib.sha256(url.encode()).hexdigest()[:8]  # files of one name from several places
    return download(url, cache_folder() / "downloads" / apart / file.file_name, file.sha256)


def unknown_checkpoint(name: str) -> str:
    if name in list_recipes():
        return (
            f"{name} is a recipe where a checkpoint is expected, and it has no published weights. Train it first: "
            f"clipwise train {name} --data DATA leaves runs/{name}/best.safetensors."
        )
    looks_like_path = "/" in name or Path(name).suffix in (*FOREIGN_SUFFIXES, ".safetensors")
    if looks_like_path:
        there = sorted(p.name for p in Path(name).parent.glob("*.safetensors")) if Path(name).parent.is_dir() else []
        beside = f" In its folder: {', '.join(there[:6])}{', …' if len(there) > 6 else ''}." if there else ""
        return f"checkpoint {name!r} does not exist.{beside}"
    if name in list_recipes():
        return f"{name!r} is a recipe, not a checkpoint. Train it: clipwise train {name} --data DIR; the run's checkpoint is best.safetensors."
    hint = did_you_mean(name, [*CATALOGUE, *ALIASES]) or "."
    return (
        f"checkpoint {name!r} is neither a file nor a name in the zoo{hint} "
        "`clipwise info --zoo` lists the published weights."
    )
