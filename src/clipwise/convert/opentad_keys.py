"""What of OpenTAD's configs is read, and what of it does not change what is computed."""

from __future__ import annotations

from typing import Any

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
