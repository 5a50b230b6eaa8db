"""What a model promises, and what is taken to hold where it says nothing.

Everything outside a model's own file asks here. A plain ``torch.nn.Module`` with ``forward(clips) -> logits`` is a model; each
answer below can be given by a method or an attribute of the name in the first column, and has a default or a refusal that
names the method to add.

| on the model | means | without it |
|---|---|---|
| ``input_spec()`` | what it takes (:class:`InputSpec`) | from ``clip_shape`` (C, T, H, W); else refused where an example is needed |
| ``num_classes`` | outputs of ``forward`` | outputs of the classifier |
| ``classifier`` | the last linear layer | the last ``nn.Linear`` |
| ``reset_classifier(n)`` | other classes | a new linear layer in its place |
| ``forward_features(clips)`` | (B, D) in front of the classifier | what goes into the classifier |
| ``stages()`` | [:class:`Stage`] from stem to head | top-level children in order, lists of modules taken apart |
| ``blocks()`` | units of checkpointing, sharding, compiling | elements of the outermost lists of like modules |
| ``aux_weight`` | in training ``forward`` gives (logits, aux logits) | logits alone |
| ``spatial_map()`` | where Grad-CAM looks (:class:`SpatialMap`) | the last map or tokens that the score depends on |
| ``views_before_softmax`` | a video's views are averaged before the softmax | False: their probabilities are |
| ``online(num_frames)`` | a twin that takes one frame a step and keeps state | refused |
| ``imagenet_body()`` | (2-D ResNet body with torchvision's names, its depth) | refused |
| ``task`` | "recognition" or "localization" | "recognition" |
| ``ignored_keys`` | recipe keys that mean nothing to it: {key: reason} | batch norm's, where there is none |
| ``counts_on_meta`` | its cost can be counted without numbers | True |

Letters: B batch, T frames, C channels, H W space, D features.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from clipwise.errors import ClipwiseError
from clipwise.models.last_layer import classifier, refuse
from clipwise.models.recipe_model import keys_without_effect, num_classes, split_auxiliary
from clipwise.models.recompute import blocks, recompute_blocks
from clipwise.models.registry import model_arguments

__all__ = [
    "InputSpec", "SpatialMap", "Stage", "blocks", "classifier", "example_input", "first_conv", "forward_features", "imagenet_body",
    "input_spec", "keys_without_effect", "missing_from", "num_classes", "num_features", "online", "recompute_blocks",
    "reset_classifier", "sizes_without_default", "spatial_map", "split_auxiliary", "stages", "views_before_softmax",
]  # fmt: skip


@dataclass(frozen=True)
class InputSpec:
    """What a model takes.

    Attributes:
        kind: "clips" (B, C, T, H, W), float, normalized; or "features" (B, F, L).
        shape: of the published model's input without the batch: (C, T, H, W) or (F, L).
        fixed_frames: no other T (or L) will do.
        min_size: smallest (H, W).
    """

    kind: Literal["clips", "features"]
    shape: tuple[int, ...]
    fixed_frames: bool = False
    min_size: tuple[int, int] = (32, 32)

    @property
    def frames(self) -> int:
        """T, or L."""
        return self.shape[1]

    def example(self, batch: int = 1, *, small: bool = False, seed: int = 0) -> Tensor:
        """Noise of that shape; ``small``: at the smallest size."""
        shape = (*self.shape[:2], *self.min_size) if small and self.kind == "clips" else self.shape
        if torch.get_default_device().type == "meta":
            return torch.empty(batch, *shape)
        return torch.randn(batch, *shape, generator=torch.Generator("cpu").manual_seed(seed), device="cpu")


@dataclass(frozen=True)
class Stage:
    """A part of a model; its parameters are those of its modules, then its own."""

    name: str
    modules: tuple[nn.Module, ...]
    own: tuple[nn.Parameter, ...] = ()

    def parameters(self) -> Iterator[nn.Parameter]:
        for module in self.modules:
            yield from module.parameters()
        yield from self.own


@dataclass(frozen=True)
class SpatialMap:
    """Where a model's last map over space lies.

    Attributes:
        module: its output holds the map.
        take: output -> the map, whatever its layout.
        put: output, another map -> the output with that one.
        grid: (map or its gradient, output) -> (B, T', D, H', W').
    """

    module: nn.Module
    take: Callable[[Any], Tensor]
    put: Callable[[Any, Tensor], Any]
    grid: Callable[[Tensor, Any], Tensor]


def input_spec(model: nn.Module) -> InputSpec:
    """What the model takes.

    Raises:
        ClipwiseError: it does not say.
    """
    if method := _method(model, "input_spec"):
        return method()
    if shape := getattr(model, "clip_shape", None):
        return InputSpec("clips", tuple(shape), fixed_frames=bool(getattr(model, "fixed_frames", False)))
    refuse(
        model, "does not say what it takes", "input_spec(self) -> InputSpec", "or set self.clip_shape = (C, T, H, W)"
    )


def example_input(model: nn.Module, batch: int = 1, *, small: bool = False) -> Tensor:
    """An input that the model's forward takes."""
    return input_spec(model).example(batch, small=small)


def reset_classifier(model: nn.Module, count: int) -> None:
    """Replace the classifier by a freshly initialized one of ``count`` outputs."""
    if method := _method(model, "reset_classifier"):
        method(count)
        return
    old = classifier(model)
    new = nn.Linear(old.in_features, count, old.bias is not None, device=old.weight.device, dtype=old.weight.dtype)
    name = next(name for name, module in model.named_modules() if module is old)
    model.set_submodule(name, new)
    if isinstance(getattr(model, "num_classes", None), int) and not _is_property(model, "num_classes"):
        model.num_classes = count  # type: ignore[assignment]


def num_features(model: nn.Module) -> int:
    """D of :func:`forward_features`."""
    known = getattr(model, "num_features", None)
    return known if isinstance(known, int) else classifier(model).in_features


def forward_features(model: nn.Module, clips: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, D): what the classifier sees.

    Raises:
        ClipwiseError: the classifier is not called with one row a clip.
    """
    if method := _method(model, "forward_features"):
        return method(clips)
    seen: list[Tensor] = []
    handle = classifier(model).register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    try:
        model(clips)
    finally:
        handle.remove()
    if len(seen) != 1 or seen[0].dim() != 2 or len(seen[0]) != len(clips):
        refuse(model, "does not give one row of features a clip to its classifier", "forward_features(self, clips)")
    return seen[0]


def first_conv(model: nn.Module) -> nn.Module:
    """The first convolution.

    Raises:
        ClipwiseError: there is none.
    """
    found = getattr(model, "first_conv", None)
    if isinstance(found, nn.Module):
        return found
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            return module
    refuse(model, "has no convolution", "first_conv", "a property that gives it")


def stages(model: nn.Module) -> list[Stage]:
    """The model's parts from stem to head; each parameter is in exactly one of them.

    By default the top-level children in the order in which they were made, where lists of modules count as their elements
    and a child that holds more than half of the weights as its children. Parameters of the model itself (positions, class
    tokens) belong to the stem.
    """
    if method := _method(model, "stages"):
        return list(method())
    total = sum(p.numel() for p in model.parameters()) or 1
    found: list[Stage] = []
    loose: list[nn.Parameter] = []

    def walk(module: nn.Module, prefix: str) -> None:
        loose.extend(module.parameters(recurse=False))
        for name, child in module.named_children():
            size = sum(p.numel() for p in child.parameters())
            if not size:
                continue
            path = f"{prefix}{name}"
            if isinstance(child, (nn.ModuleList, nn.Sequential)) or (2 * size > total and any(child.children())):
                walk(child, f"{path}.")
            else:
                found.append(Stage(path, (child,)))

    walk(model, "")
    if loose:
        stem = found[0] if found else Stage("stem", ())
        found[:1] = [Stage(stem.name, stem.modules, tuple(loose))]
    return found


def spatial_map(model: nn.Module) -> SpatialMap | None:
    """Where Grad-CAM looks, if the model says so; else it is found by a run (``clipwise.analyze.gradcam``)."""
    method = _method(model, "spatial_map")
    return method() if method else None


def online(model: nn.Module, num_frames: int | None = None) -> Any:
    """A twin of the model that takes one frame a step, (B, C, H, W) -> (B, num_classes), and keeps state.

    It has ``reset()``, and ``forward`` gives the mean of the last ``num_frames`` steps.

    Raises:
        ClipwiseError: the model can't.
    """
    if method := _method(model, "online"):
        return method(num_frames)
    raise ClipwiseError(
        f"{type(model).__name__} can't run frame by frame; TSM trained with model_args.online_shift=true can. "
        "(A model says that it can by a method `online(self, num_frames)`.)"
    )


def imagenet_body(model: nn.Module) -> tuple[nn.Module, str]:
    """The body with torchvision's names that the ImageNet weights of a 2-D ResNet are loaded into, and that ResNet's depth.

    Raises:
        ClipwiseError: it has none.
    """
    if method := _method(model, "imagenet_body"):
        return method()
    refuse(model, "has no ImageNet weights to start from", "imagenet_body(self) -> (module, depth)")


def views_before_softmax(model: Any) -> bool:
    """Whether a video's views are averaged before the softmax."""
    return bool(getattr(model, "views_before_softmax", False))


def _method(model: nn.Module, name: str) -> Callable[..., Any] | None:
    """A method of that name; not a submodule, which may be called so as well."""
    found = getattr(type(model), name, None)
    return getattr(model, name) if inspect.isroutine(found) else None


def _is_property(model: nn.Module, name: str) -> bool:
    return isinstance(getattr(type(model), name, None), property)


def missing_from(parts: Sequence[Stage], model: nn.Module) -> list[str]:
    """Names of parameters that are in no stage, or in several."""
    counted: dict[int, int] = {}
    for stage in parts:
        for parameter in stage.parameters():
            counted[id(parameter)] = counted.get(id(parameter), 0) + 1
    return [name for name, parameter in model.named_parameters() if counted.get(id(parameter)) != 1]


def sizes_without_default(name: str | Callable[..., nn.Module]) -> dict[str, Any]:
    """Values for settings that come from the data and have no default, to describe or measure the model without data."""
    sizes = {
        "num_classes": 400,
        "num_frames": 8,
        "num_segments": 8,
        "clip_len": 8,
        "in_channels": 3,
        "feat_dim": 400,
        "temporal_dim": 100,
    }
    known = model_arguments(name)
    return {key: value for key, value in sizes.items() if known.get(key) is inspect.Parameter.empty}
