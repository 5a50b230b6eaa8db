"""clipwise: recognize what happens in a video clip, and find when it happens in a long video.

The public names are imported when they are first used, so that ``import clipwise`` does not pay for torch.
"""

from importlib import import_module

__version__ = "0.2.0.dev0"

_PUBLIC = {
    "create_model": "clipwise.models",
    "list_models": "clipwise.models",
    "register_model": "clipwise.models",
    "register_dataset": "clipwise.data.lists",
    "register_transform": "clipwise.data.augment",
    "register_loss": "clipwise.tasks.logits",
    "register_metric": "clipwise.tasks.metrics",
    "load_model": "clipwise.engine.checkpoint",
    "load": "clipwise.infer.predictor",
    "Predictor": "clipwise.infer.predictor",
    "localize": "clipwise.infer.localize",
    "train": "clipwise.engine.train",
    "evaluate": "clipwise.engine.test",
    "list_recipes": "clipwise.recipe",
    "load_recipe": "clipwise.recipe",
    "Recipe": "clipwise.recipe",
    "ClipwiseError": "clipwise.errors",
    "open_video": "clipwise.video.decode",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'clipwise' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
