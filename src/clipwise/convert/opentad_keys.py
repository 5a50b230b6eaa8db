"""What of OpenTAD's configs is read, and what of it does not change what is computed."""

from __future__ import annotations

from collections.abc import Mapping
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
