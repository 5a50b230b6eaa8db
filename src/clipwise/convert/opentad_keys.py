"""What the translators of OpenTAD's configs share: the data's three parts, and the account of what is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clipwise.convert.mmaction2.consumed import Keys

READ = (
    "model",
    "dataset",
    "solver",
    "optimizer",
    "scheduler",
    "inference",
    "post_processing",
    "evaluation",
    "workflow",
    "work_dir",
)
ASIDE: dict[str, tuple[Any, ...]] = {
    "work_dir": (), "inference.save_raw_prediction": (False,), "post_processing.save_dict": (False,), "workflow.val_loss_interval": (1,),
    "workflow.val_start_epoch": (), "solver.val.num_workers": (), "solver.test.num_workers": (), "evaluation.ground_truth_filename": (),
    "evaluation.blocked_videos": (), "solver.static_graph": (False,),
}  # fmt: skip


def account(
    keys: Keys, config: Mapping[str, Any], fixed: Mapping[str, tuple[Any, ...]], subset: str, notes: list[str]
) -> list[str]:
    """What a translated config still holds: named in ``notes`` where it has no effect, else returned to be refused.

    Args:
        fixed: keys that the recipe has no name for, and the values that it means.
        subset: what the recipe validates on.
    """
    if (given := keys.take("evaluation.subset")) != subset:
        keys.put("evaluation.subset", given)
    for place, allowed in fixed.items():
        keys.expect(place, *allowed)
    for place, usual in ASIDE.items():
        keys.set_aside(place, *usual)
    left = keys.left()
    unread = [f"{name} = {value!r}" for name, value in config.items() if name not in READ]
    if unread:
        notes.append(f"Names of the config's own, which OpenTAD does not read: {'; '.join(unread)}.")
    if keys.aside:
        notes.append(f"Left to the command line and the machine: {'; '.join(keys.aside)}.")
    return left


def part_files(part: Keys) -> dict[str, Any]:
    """The files that a part of the data names, and its subset."""
    return {key: part.take(key) for key in ("subset_name", "ann_file", "data_path", "block_list", "class_map")}


def read_pipeline(
    part: Keys, name: str, found: dict[str, Any], left: list[str], own: Callable[[str, Keys], bool]
) -> None:
    """The steps of a part's pipeline: LoadFeats says the files' format; ``own`` reads those of one kind of data set.

    Args:
        name: train, val or test.
        found: of the part; gets "feat_format".
        left: gets what is not read.
        own: takes a step's kind and keys; whether it is one of its own.
    """
    for step in part.take("pipeline") or []:
        keys = Keys(step, part.aside)
        kind = keys.take("type")
        if kind == "LoadFeats":
            found["feat_format"] = keys.take("feat_format")
            keys.set_aside("prefix", "", "v_")  # names with and without v_ are the same here
        elif kind == "Rearrange":
            keys.expect("keys", ["feats"])
            keys.expect("ops", "t c -> c t", "t c-> c t")
        elif kind in ("ConvertToTensor", "Collect"):
            keys.expect("inputs", "feats")
            if set(names := keys.take("keys", [])) - {"feats", "masks", "gt_segments", "gt_labels"}:
                keys.put("keys", names)
        elif not own(kind, keys):
            left.append(f"dataset.{name}.pipeline: {kind}")
        left += [f"dataset.{name}.pipeline, {kind}: {line}" for line in keys.left()]


def external_scores(keys: Keys, notes: list[str]) -> None:
    """Class scores of whole videos, which are no part of a recipe: noted."""
    outside = keys.pull("post_processing.external_cls")
    source = outside.take("type")
    for key, value in (("type", source), *((key, outside.take(key)) for key in ("path", "topk"))):
        if value is not None and source != "PseudoClassifier":
            notes.append(
                f"post_processing.external_cls.{key} = {value!r}: give it to eval-detections or localize (--class-scores)."
            )
    for line in outside.left():
        keys.put(f"post_processing.external_cls.{line.split(' = ')[0]}", line.split(" = ", 1)[1])


def filtered(part: Keys, name: str, notes: list[str]) -> None:
    """Take ``filter_gt``, which leaves very short actions out of a part's losses."""
    if name == "train" and part.take("filter_gt", False):
        notes.append("Actions of at most 1 % of their video are learned here, and left out there (filter_gt).")
    part.set_aside("filter_gt")


def read_resize(step: Keys, found: dict[str, Any]) -> None:
    """Take the keys of a ResizeFeat; ``found`` gets the "tool"."""
    found["tool"] = step.take("tool")
    step.expect("channel_first", False)


def check_resized(name: str, found: Mapping[str, Any], left: list[str]) -> None:
    """Add to ``left`` that a data part's features are resized by another tool than ours, or by none."""
    if found.get("tool") != "torchvision_align":
        left.append(f"dataset.{name}.pipeline, ResizeFeat: tool = {found.get('tool')!r}")


def differences(seen: Mapping[str, Mapping[str, Any]], same: Sequence[str]) -> list[str]:
    """What of val and test must be as in train, or in val, and is not; a recipe has one of each."""
    found = [
        f"dataset.{name}: {key} = {seen[name].get(key)!r}, but {seen['train'].get(key)!r} in training"
        for name in ("val", "test")
        for key in same
        if seen[name].get(key) != seen["train"].get(key)
    ]
    if (subset := seen["test"]["subset_name"]) != seen["val"]["subset_name"]:
        found.append(f"dataset.test.subset_name = {subset!r}, but {seen['val']['subset_name']!r} in validation")
    return found
