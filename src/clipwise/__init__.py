"""clipwise: recognize what happens in a video clip, and find when it happens in a long video.

The names in ``__all__``, and ``clipwise.video``, are the public API: a change of it is deliberate (``tests/unit/public_api.txt``), and
what leaves it warns for two minor versions first (docs/en/python.md). They are imported when they are first used, so that
``import clipwise`` does not pay for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; _PUBLIC says the same at run time (tests/unit/test_public.py)
    from clipwise.data.augment import register_transform
    from clipwise.data.clip_spec import ClipSpec
    from clipwise.data.dataset import ClipDataset
    from clipwise.data.lists import read_list, register_dataset
    from clipwise.data.videolist import VideoList
    from clipwise.engine.callbacks import Callback
    from clipwise.engine.checkpoint import load_model
    from clipwise.engine.evaluate import TestResult
    from clipwise.engine.model_factory import create_model, describe_model, list_models, save_model
    from clipwise.engine.model_transforms import transforms_for
    from clipwise.engine.run_result import RunResult
    from clipwise.engine.test import evaluate
    from clipwise.engine.train import train
    from clipwise.errors import ClipwiseError
    from clipwise.infer.localize import localize
    from clipwise.infer.predictor import Prediction, Predictor, load
    from clipwise.infer.show import Predictions
    from clipwise.models.registry import register_model
    from clipwise.recipe import Recipe, list_recipes, load_recipe
    from clipwise.tasks.logits import register_loss
    from clipwise.tasks.metrics import register_metric
    from clipwise.video.decode import open_video

__version__ = "0.2.0.dev0"

__all__ = [
    "Callback",
    "ClipDataset",
    "ClipSpec",
    "ClipwiseError",
    "Prediction",
    "Predictions",
    "Predictor",
    "Recipe",
    "RunResult",
    "TestResult",
    "VideoList",
    "__version__",
    "create_model",
    "describe_model",
    "evaluate",
    "list_models",
    "list_recipes",
    "load",
    "load_model",
    "load_recipe",
    "localize",
    "open_video",
    "read_list",
    "register_dataset",
    "register_loss",
    "register_metric",
    "register_model",
    "register_transform",
    "save_model",
    "train",
    "transforms_for",
]

_PUBLIC = {
    "Callback": "clipwise.engine.callbacks",
    "ClipDataset": "clipwise.data.dataset",
    "ClipSpec": "clipwise.data.clip_spec",
    "ClipwiseError": "clipwise.errors",
    "Prediction": "clipwise.infer.predictor",
    "Predictions": "clipwise.infer.show",
    "Predictor": "clipwise.infer.predictor",
    "Recipe": "clipwise.recipe",
    "RunResult": "clipwise.engine.run_result",
    "TestResult": "clipwise.engine.evaluate",
    "VideoList": "clipwise.data.videolist",
    "create_model": "clipwise.engine.model_factory",
    "describe_model": "clipwise.engine.model_factory",
    "evaluate": "clipwise.engine.test",
    "list_models": "clipwise.engine.model_factory",
    "list_recipes": "clipwise.recipe",
    "load": "clipwise.infer.predictor",
    "load_model": "clipwise.engine.checkpoint",
    "load_recipe": "clipwise.recipe",
    "localize": "clipwise.infer.localize",
    "open_video": "clipwise.video.decode",
    "read_list": "clipwise.data.lists",
    "register_dataset": "clipwise.data.lists",
    "register_loss": "clipwise.tasks.logits",
    "register_metric": "clipwise.tasks.metrics",
    "register_model": "clipwise.models.registry",
    "register_transform": "clipwise.data.augment",
    "save_model": "clipwise.engine.model_factory",
    "train": "clipwise.engine.train",
    "transforms_for": "clipwise.engine.model_transforms",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'clipwise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
