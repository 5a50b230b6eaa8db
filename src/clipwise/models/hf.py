"""Video and image transformers of Hugging Face's ``transformers`` as models: ``hf:MODEL`` (extra ``hf``).

* the network is the library's own code, unchanged: equal inputs give equal logits, bit for bit
* video: VideoMAE (v1, v2), TimeSformer, ViViT, V-JEPA 2; per frame: DINOv2, DINOv3, SigLIP, CLIP, ViT
* weights are checked: one that is missing in the file is refused, never left at random

Letters: B batch, C channels, T frames, H W space, N tokens, D features, K classes.
"""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipwise.errors import CheckpointError, ClipwiseError, MissingExtraError
from clipwise.io.model_folders import model_folder, weight_files
from clipwise.io.text import plural
from clipwise.models.foreign_encoders import ForeignEncoder, hidden_tokens
from clipwise.models.registry import MODELS


@dataclass(frozen=True)
class Family:
    """How the networks of one ``model_type`` are run.

    Attributes:
        pool: tokens or output -> (B, D): "mean" or "cls" of the tokens, "pooler" or "embeds" of the output.
        image: takes single frames.
        tower: the class of the encoder where AutoModel would give something else.
        pixels: name of the input.
        fixed: other numbers of frames, or sizes, won't do.
        options: of the encoder's call.
        build: of the encoder's constructor.
        unused: parts that the features do not need.
        size_key: of the settings.
        classifier: path of the last layer of the class with a head.
    """

    pool: str
    image: bool = False
    tower: str | None = None
    pixels: str = "pixel_values"
    fixed: bool = False
    options: tuple[tuple[str, Any], ...] = ()
    build: tuple[tuple[str, Any], ...] = ()
    unused: tuple[str, ...] = ()
    size_key: str = "image_size"
    width_key: str = "hidden_size"


FAMILIES = {
    "videomae": Family("mean", fixed=True),
    "timesformer": Family("cls", fixed=True),
    "vivit": Family("cls", fixed=True, build=(("add_pooling_layer", False),)),
    "vjepa2": Family(
        "mean",
        pixels="pixel_values_videos",
        options=(("skip_predictor", True),),
        unused=("predictor",),
        size_key="crop_size",
    ),
    "dinov2": Family("pooler", image=True),
    "dinov2_with_registers": Family("pooler", image=True),
    "dinov3_vit": Family("pooler", image=True),
    "vit": Family("cls", image=True, build=(("add_pooling_layer", False),)),
    "siglip": Family("pooler", image=True, tower="SiglipVisionModel"),
    "siglip_vision_model": Family("pooler", image=True, tower="SiglipVisionModel"),
    "clip": Family("embeds", image=True, tower="CLIPVisionModelWithProjection", width_key="projection_dim"),
    "clip_vision_model": Family(
        "embeds", image=True, tower="CLIPVisionModelWithProjection", width_key="projection_dim"
    ),
}
_FRAMES = {"videomae": 16, "timesformer": 8, "vivit": 32, "vjepa2": 64}


def import_transformers() -> Any:
    """The library.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "hf", "a model of transformers (hf:…)") from None
    return transformers


class TransformersModel(ForeignEncoder):
    """Clips (B, C, T, H, W) -> logits (B, K), by a network of ``transformers``.

    Args:
        config: the settings of its config.json.
        num_classes: K; with ``head: none`` it has no effect.
        head, frozen: see ``clipwise.models.foreign_encoders``. None: the network's own classifier if its settings name one, or
            if there are classes to tell apart; else none.
        dropout: in front of a new head's classifier.
        drop_path: stochastic depth: the last layer is skipped with this probability, the first never.
        net: the network itself, if it exists already.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        num_classes: int | None = None,
        *,
        head: str | None = None,
        frozen: bool = False,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        net: nn.Module | None = None,
    ):
        if not config:
            raise ClipwiseError(
                "model hf needs the network's settings (model_args.config): name it as recipe, hf:MODEL."
            )
        settings = make_config(config, num_classes)
        family = family_of(settings.model_type)
        head = head or default_head(config, num_classes)
        own = head == "own"
        if net is None:
            net = network_class(settings, own)(vision_settings(settings, own), **({} if own else dict(family.build)))
        inner = vision_settings(settings, False)
        side = getattr(inner, family.size_key)
        height, width = (side, side) if isinstance(side, int) else side
        frames = 8 if family.image else _num_frames(settings)
        drop_unused(net, family)
        super().__init__(
            net,
            image=family.image,
            num_features=getattr(inner, family.width_key),
            clip_shape=(getattr(inner, "num_channels", 3), frames, height, width),
            fixed_frames=family.fixed,
            num_classes=num_classes,
            head=head,
            frozen=frozen,
            dropout=dropout,
            drop_path=drop_path,
        )
        self.family = family
        if own:
            self.num_features = self.own_classifier.in_features
        for name, parameter in self.net.named_parameters():
            if "mask_token" in name:  # only the pretraining saw it
                parameter.requires_grad_(False)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pooled output and tokens of the encoder."""
        output = self.net(**{self.family.pixels: pixels}, **dict(self.family.options))
        tokens = hidden_tokens(output)
        pool = self.family.pool
        if pool in ("pooler", "embeds"):
            return (output.pooler_output if pool == "pooler" else output.image_embeds), tokens
        return (tokens.mean(1) if pool == "mean" else tokens[:, 0]), tokens

    def own_logits(self, pixels: Tensor) -> Tensor:
        """The network's own scores."""
        return self.net(**{self.family.pixels: pixels}).logits

    @property
    def own_classifier(self) -> nn.Linear:
        """The network's own last layer."""
        return self.net.classifier  # type: ignore[return-value]

    def load_from(self, name: str | Path) -> str:
        """Take the weights of ``hf:MODEL``.

        Returns:
            A line for the log.

        Raises:
            CheckpointError: a weight of the encoder is missing or of another shape.
        """
        own = self.head is None and self.labeled
        loaded, note = load_network(name, own, num_classes=self.num_classes if own else None, new_head=True)
        drop_unused(loaded, self.family)
        self.net.load_state_dict(loaded.state_dict())
        return note


def drop_unused(net: nn.Module, family: Family) -> None:
    """Remove the parts that the features do not need; their weights would wait for gradients that never come."""
    for part in family.unused:
        owner = net if hasattr(net, part) else getattr(net, str(net.base_model_prefix))
        setattr(owner, part, nn.Identity())


def default_head(config: Mapping[str, Any], num_classes: int | None) -> str:
    """The head where none is chosen."""
    if any("Classification" in str(name) for name in config.get("architectures") or ()):
        return "own"
    return ("own" if _classification_class(str(config.get("model_type"))) else "linear") if num_classes else "none"


def family_of(model_type: str) -> Family:
    """How this kind of network is run.

    Raises:
        CheckpointError: unknown.
    """
    if model_type not in FAMILIES:
        raise CheckpointError(
            f"transformers' model type {model_type!r} is not supported. Supported: {', '.join(FAMILIES)}."
        )
    return FAMILIES[model_type]


def make_config(config: Mapping[str, Any], num_classes: int | None) -> Any:
    """The library's settings object.

    Raises:
        CheckpointError: an unknown kind of network, or one with code of its own.
    """
    transformers = import_transformers()
    values = copy.deepcopy(dict(config))
    kind = str(values.pop("model_type", None))
    if "auto_map" in values:
        raise CheckpointError(f"{kind} brings code of its own, which a recipe or a checkpoint does not run.")
    family_of(kind)
    try:
        made = transformers.AutoConfig.for_model(kind, **values)
    except Exception as error:  # the library checks its settings in many ways
        raise CheckpointError(f"the settings of {kind} can't be used: {str(error).strip().splitlines()[0]}.") from None
    if num_classes:
        made.num_labels = num_classes
    return made


def vision_settings(config: Any, own: bool) -> Any:
    """The part of an image–text network's settings that is for images."""
    return config if own or not hasattr(config, "vision_config") else config.vision_config


def _num_frames(config: Any) -> int:
    return int(
        getattr(config, "num_frames", None) or getattr(config, "frames_per_clip", None) or _FRAMES[config.model_type]
    )


def _classification_class(model_type: str) -> str | None:
    """The name of the library's class with a classifier."""
    from transformers.models.auto import modeling_auto as auto

    for names in (
        auto.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    ):
        if found := names.get(model_type):
            return found if isinstance(found, str) else next(iter(found))
    return None


def network_class(config: Any, own: bool) -> Any:
    """The library's class: with its classifier (``own``), or the encoder alone.

    Raises:
        CheckpointError: this kind has no class with a classifier.
    """
    transformers = import_transformers()
    if own:
        name = _classification_class(config.model_type)
        if name is None:
            raise CheckpointError(
                f"{config.model_type} has no classifier of its own in transformers; use model=hf_probe."
            )
        return getattr(transformers, name)
    tower = family_of(config.model_type).tower
    return getattr(transformers, tower) if tower else transformers.AutoModel._model_mapping[type(config)]


def load_network(
    name: str | Path, own: bool, num_classes: int | None = None, new_head: bool = False
) -> tuple[nn.Module, str]:
    """The network of ``hf:MODEL`` with its weights, all of them found in its files.

    Args:
        own: with its classifier.
        num_classes: of the classifier, if not the file's.
        new_head: a classifier that is missing or of another size is initialized at random, which is logged.

    Raises:
        CheckpointError: weights are missing, of another shape, or a pickle without trust.
    """
    transformers = import_transformers()
    folder = model_folder(name)
    safe = weight_files(folder, name)[0].suffix == ".safetensors"
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    family = family_of(config.model_type)
    kind = network_class(config, own)
    config = vision_settings(config, own)
    if num_classes:
        config.num_labels = num_classes
    with _quiet(transformers):
        try:
            net, report = kind.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                use_safetensors=safe,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype=torch.float32,
                **({} if own else dict(family.build)),
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{name}: its weights can't be read: {str(error).strip().splitlines()[0]}") from None
    wrong = [str(key) for key in report["missing_keys"]]
    wrong += [str(entry[0]) if isinstance(entry, (tuple, list)) else str(entry) for entry in report["mismatched_keys"]]
    fresh = [key for key in wrong if key.startswith(("classifier.", "fc_norm.", "pooler."))] if own and new_head else []
    lost = sorted(set(wrong) - set(fresh))
    parts = tuple(f"{part}." for part in family.unused)
    lost = [key for key in lost if not any(part in key for part in parts)]
    if lost:
        raise CheckpointError(
            f"{name}: {plural(len(lost), f'weight of {kind.__name__} is', f'weights of {kind.__name__} are')} missing in its files or of another shape ({', '.join(lost[:4])}"
            f"{', …' if len(lost) > 4 else ''}). They would be random, so the model is refused."
        )
    note = f"weights from {name}, a {kind.__name__}"
    if fresh:
        note += f"; re-initialized for {plural(num_classes, 'class', 'classes')}: {', '.join(sorted(set(fresh)))}"
    if left := sorted(report["unexpected_keys"]):
        note += f"; {plural(len(left), 'weight')} without use here ({left[0]}{', …' if len(left) > 1 else ''})"
    return net, note


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without the library's own report and bars: what it says is checked and told here."""
    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


@MODELS.register(listed=False)  # can't be made without settings, so no list has it
def hf(**model_args) -> TransformersModel:
    """A network of transformers by its settings; ``hf:MODEL`` as recipe fills them in."""
    return TransformersModel(**model_args)


@MODELS.register(listed=False)  # can't be made without settings, so no list has it
def hf_probe(**model_args) -> TransformersModel:
    """A new head, linear unless told otherwise, on a frozen network of transformers."""
    return TransformersModel(**{"head": "linear", "frozen": True, **model_args})
