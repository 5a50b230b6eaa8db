"""Image networks of ``timm`` on single frames: ``timm:MODEL``, where timm is installed (it needs torchvision).

* the network is the library's own; features and scores are averaged over the frames
* tokens of the attentive head: patches of a transformer, positions of a convolutional map

Letters: B batch, C channels, T frames, H W space, N tokens, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from clipwise.errors import CheckpointError, ClipwiseError, MissingExtraError
from clipwise.io.model_folders import model_folder, weight_files
from clipwise.io.text import plural
from clipwise.models.foreign_encoders import ForeignEncoder
from clipwise.models.registry import MODELS


class TimmModel(ForeignEncoder):
    """Clips (B, C, T, H, W) -> logits (B, K), frame by frame.

    Args:
        config: ``architecture``, ``model_args`` and ``input_size`` of its config.json.
        num_classes, head, frozen, dropout, drop_path: see ``clipwise.models.foreign_encoders``.
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
    ):
        if not config:
            raise ClipwiseError(
                "model timm needs the network's settings (model_args.config): name it as recipe, timm:MODEL."
            )
        try:
            import timm as library
        except (ImportError, RuntimeError):  # a torchvision that does not fit torch ends in a RuntimeError
            raise MissingExtraError(
                "timm with a torchvision that fits torch", "timm", f"timm:{config['architecture']}"
            ) from None
        head = head or ("own" if num_classes else "none")
        net = library.create_model(
            config["architecture"], num_classes=num_classes if head == "own" else 0, **(config.get("model_args") or {})
        )
        channels, height, width = config["input_size"]
        super().__init__(
            net,
            image=True,
            num_features=int(getattr(net, "head_hidden_size", None) or net.num_features),
            clip_shape=(channels, 8, height, width),
            fixed_frames=False,
            num_classes=num_classes,
            head=head,
            frozen=frozen,
            dropout=dropout,
            drop_path=drop_path,
        )

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """What lies in front of timm's classifier, and the tokens."""
        tokens = self.net.forward_features(pixels)  # type: ignore[operator]
        pooled = self.net.forward_head(tokens, pre_logits=True)  # type: ignore[operator]
        return pooled, tokens.flatten(2).transpose(1, 2) if tokens.dim() == 4 else tokens

    def own_logits(self, pixels: Tensor) -> Tensor:
        """The network's own scores."""
        return self.net(pixels)

    @property
    def own_classifier(self) -> nn.Linear:
        """The network's own last layer."""
        return self.net.get_classifier()  # type: ignore[operator]

    def load_from(self, name: str | Path, new_head: bool = True) -> str:
        """Take the weights of ``timm:MODEL``.

        Args:
            new_head: a classifier of another size is initialized at random, which is logged.

        Returns:
            A line for the log.

        Raises:
            CheckpointError: a weight of the encoder is missing or of another shape.
        """
        from safetensors.torch import load_file

        files = weight_files(model_folder(name), name)
        if files[0].suffix != ".safetensors":
            raise CheckpointError(f"{name}: of timm only safetensors are read; {files[0].name} is a pickle.")
        tensors, own = load_file(files[0]), self.net.state_dict()
        last = self.net.pretrained_cfg.get("classifier", "head")  # type: ignore[union-attr, operator]
        heads = tuple(f"{item}." for item in ([last] if isinstance(last, str) else last))
        wrong = [key for key, value in own.items() if key not in tensors or tensors[key].shape != value.shape]
        fresh = [key for key in wrong if key.startswith(heads)] if new_head else []
        lost = sorted(set(wrong) - set(fresh))
        if lost:
            raise CheckpointError(
                f"{name}: {plural(len(lost), 'weight is', 'weights are')} missing in its files or of another shape ({', '.join(lost[:4])}); the model is refused."
            )
        self.net.load_state_dict({key: value if key in fresh else tensors[key] for key, value in own.items()})
        return f"weights from {name}" + (f"; re-initialized: {', '.join(sorted(fresh))}" if fresh else "")


@MODELS.register(listed=False)  # can't be made without settings, so no list has it
def timm(**model_args) -> TimmModel:
    """A network of timm by its settings; ``timm:MODEL`` as recipe fills them in."""
    return TimmModel(**model_args)


@MODELS.register(listed=False)  # can't be made without settings, so no list has it
def timm_probe(**model_args) -> TimmModel:
    """A new head, linear unless told otherwise, on a frozen network of timm."""
    return TimmModel(**{"head": "linear", "frozen": True, **model_args})
