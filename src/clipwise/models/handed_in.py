"""A network that was handed to ``train`` as an object: for the length of a run it has a name, like every model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from clipwise.io.code_import import OBJECT
from clipwise.io.plugins import Entry
from clipwise.models.registry import MODELS


@contextmanager
def handed_in(model: nn.Module) -> Iterator[str]:
    """Inside, the name that is yielded stands for this very network; checkpoints keep it, and are loaded with the network given again."""
    kind = type(model)
    place = f"{OBJECT}{kind.__module__}.{kind.__qualname__}"
    options = {
        "task": getattr(model, "task", None),
        "rules": getattr(kind, "rules", None),
        "frames_setting": None,
    }

    def make() -> nn.Module:
        return model

    MODELS.entries[place] = Entry(place, place, make, options)
    MODELS.by_name[place] = place
    try:
        yield place
    finally:
        del MODELS.entries[place], MODELS.by_name[place]
