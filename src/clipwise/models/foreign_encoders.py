"""Encoders of other libraries as models: what they share, the heads of probes, and drop path for blocks that have none.

* a video network sees the clip; an image network sees each frame, and its features (and scores) are averaged over the frames
* ``head: own``: the network's own classifier; ``linear`` or ``attentive``: a new one on its tokens; ``text``: similarity to texts that
  describe the classes; ``none``: features alone
* ``frozen``: the encoder stays as it is, and in evaluation mode, while the head trains (a probe)

Letters: B batch, C channels, T frames, H W space, N tokens of a clip, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from clipwise.errors import ClipwiseError, DataError
from clipwise.io.text import plural
from clipwise.models.contract import InputSpec, Stage, blocks

HEADS = ("own", "linear", "attentive", "text", "none")


class LinearHead(nn.Module):
    """(B, D) -> (B, K): normalized without weights, so that one learning rate suits every encoder; dropout; linear."""

    def __init__(self, num_features: int, num_classes: int, dropout: float = 0.0):
        super().__init__()
        self.norm = nn.LayerNorm(num_features, elementwise_affine=False)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(num_features, num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def pool(self, pooled: Tensor, tokens: Tensor | None) -> Tensor:
        """What the classifier sees."""
        return self.norm(pooled)

    def forward(self, pooled: Tensor, tokens: Tensor | None) -> Tensor:
        return self.classifier(self.dropout(self.pool(pooled, tokens)))


class AttentiveHead(nn.Module):
    """(B, N, D) -> (B, K): one learned query attends to all tokens, then an MLP (V-JEPA's probe with one block)."""

    def __init__(self, num_features: int, num_classes: int, dropout: float = 0.0):
        super().__init__()
        heads = next(
            n for n in (16, 12, 8, 6, 4, 3, 2, 1) if (num_features % n == 0 and num_features // n >= 16) or n == 1
        )
        self.query = nn.Parameter(torch.zeros(1, 1, num_features))
        self.norm = nn.LayerNorm(num_features)
        self.attention = nn.MultiheadAttention(num_features, heads, batch_first=True)
        hidden = 4 * num_features
        self.mlp = nn.Sequential(
            nn.LayerNorm(num_features), nn.Linear(num_features, hidden), nn.GELU(), nn.Linear(hidden, num_features)
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(num_features, num_classes)
        nn.init.trunc_normal_(self.query, std=0.02)

    def pool(self, pooled: Tensor, tokens: Tensor | None) -> Tensor:
        """What the classifier sees."""
        assert tokens is not None
        keys = self.norm(tokens)
        x = self.query + self.attention(self.query.expand(len(tokens), -1, -1), keys, keys, need_weights=False)[0]
        return (x + self.mlp(x))[:, 0]

    def forward(self, pooled: Tensor, tokens: Tensor | None) -> Tensor:
        return self.classifier(self.dropout(self.pool(pooled, tokens)))


class TextHead(nn.Module):
    """(B, D) -> (B, K): scaled cosines to the classes' texts, which the text tower turned into ``classifier.weight`` once."""

    def __init__(self, num_features: int, num_classes: int, dropout: float = 0.0):
        super().__init__()
        self.classifier = nn.Linear(num_features, num_classes)
        self.scale = nn.Parameter(torch.ones(()))

    def pool(self, pooled: Tensor, tokens: Tensor | None) -> Tensor:
        """What the classifier sees."""
        return pooled / pooled.norm(dim=-1, keepdim=True)

    def forward(self, pooled: Tensor, tokens: Tensor | None) -> Tensor:
        return self.pool(pooled, tokens) @ self.classifier.weight.T * self.scale + self.classifier.bias


_NEW: dict[str, type[nn.Module]] = {"linear": LinearHead, "attentive": AttentiveHead, "text": TextHead}


class ForeignEncoder(nn.Module):
    """A network of another library under our contract; a library's class says how it is run.

    Args:
        net: the network; with ``head: own`` it has its classifier.
        image: whether it takes single frames.
        num_features: D.
        clip_shape: (C, T, H, W) of its input.
        fixed_frames: no other T will do.
        num_classes: K; None with ``head: none``.

    A subclass defines ``encode(pixels) -> (pooled, tokens)`` and, for ``head: own``, ``own_classifier`` and ``own_logits``.
    """

    frames_setting = None
    counts_on_meta = False

    def __init__(
        self,
        net: nn.Module,
        *,
        image: bool,
        num_features: int,
        clip_shape: tuple[int, int, int, int],
        fixed_frames: bool,
        num_classes: int | None,
        head: str,
        frozen: bool,
        dropout: float,
        drop_path: float,
    ):
        super().__init__()
        if head not in HEADS:
            raise ClipwiseError(f"head was {head!r}; use one of {', '.join(HEADS)}.")
        if frozen and head in ("own", "none"):
            raise ClipwiseError(f"frozen with head {head!r} leaves nothing to train; use head linear or attentive.")
        self.net, self.image, self.frozen = net, image, frozen
        self.num_features = num_features
        self.clip_shape, self._fixed = clip_shape, fixed_frames
        self.head: nn.Module | None = None
        if head in _NEW:
            if not num_classes:
                raise ClipwiseError(f"head {head!r} needs num_classes.")
            self.head = _NEW[head](num_features, num_classes, dropout)
        self.labeled = head != "none"
        units = {id(unit) for unit in blocks(_Bare(net))}
        self._units = [name for name, module in net.named_modules() if id(module) in units]
        if frozen:
            self.net.requires_grad_(False).eval()
        if drop_path:
            if frozen:
                raise ClipwiseError("drop_path has no effect on a frozen encoder; leave one of them out.")
            for number, block in enumerate(self.blocks()):
                drop_block(block, drop_path * number / max(1, len(units) - 1))

    # -- the library's part

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, T, C, H, W), or (B, C, H, W) of an image network -> (B, D) and (B, N, D)."""
        raise NotImplementedError

    def own_logits(self, pixels: Tensor) -> Tensor:
        """The network's own scores (B, K)."""
        raise NotImplementedError

    @property
    def own_classifier(self) -> nn.Linear:
        """The network's own last layer."""
        raise NotImplementedError

    # -- the contract's

    @property
    def classifier(self) -> nn.Linear | None:
        """The last linear layer; None of an encoder without classes."""
        if self.head is not None:
            return self.head.classifier  # type: ignore[return-value]
        return self.own_classifier if self.labeled else None

    @property
    def num_classes(self) -> int:
        """K; 0 of an encoder without classes."""
        last = self.classifier
        return last.out_features if last is not None else 0

    def input_spec(self) -> InputSpec:
        """Clips of the size that the network's settings give."""
        return InputSpec("clips", self.clip_shape, fixed_frames=self._fixed, min_size=self.clip_shape[2:])

    def blocks(self) -> list[nn.Module]:
        """The network's layers."""
        return [self.net.get_submodule(name) for name in self._units]

    def stages(self) -> list[Stage]:
        """Stem, each layer, head: by the order in which the network made its parameters."""
        units = self.blocks()
        inside = {id(p): number for number, unit in enumerate(units) for p in unit.parameters()}
        stem: list[nn.Parameter] = []
        head: list[nn.Parameter] = []
        begun = False
        for parameter in self.parameters():
            if id(parameter) in inside:
                begun = True
            else:
                (head if begun else stem).append(parameter)
        layers = [Stage(f"layer{number}", (unit,)) for number, unit in enumerate(units)]
        return [Stage("stem", (), tuple(stem)), *layers, Stage("head", (), tuple(head))]

    def train(self, mode: bool = True) -> ForeignEncoder:
        """As of any module, but a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.net.eval()
        return self

    def forward(self, clips: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, K).

        Raises:
            ClipwiseError: an encoder without classes.
        """
        if not self.labeled:
            raise ClipwiseError(
                "this encoder has no classifier. `clipwise features` takes it; `clipwise train hf:MODEL --data …` (model=hf_probe) gives it one."
            )
        if self.head is None:
            return self._over_frames(self.own_logits, clips)
        return self.head(*self._encoded(clips))

    def forward_features(self, clips: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, D): the encoder's pooled output, or what a head's classifier sees."""
        if self.head is not None:
            return self.head.pool(*self._encoded(clips))  # type: ignore[operator]
        if not self.labeled:
            return self._encoded(clips)[0]
        seen: list[Tensor] = []
        handle = self.own_classifier.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        try:
            self._over_frames(self.own_logits, clips)
        finally:
            handle.remove()
        return seen[0].unflatten(0, (len(clips), -1)).mean(1) if self.image else seen[0]

    def _encoded(self, clips: Tensor) -> tuple[Tensor, Tensor | None]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            if not self.image:
                return self.encode(self._pixels(clips))
            pooled, tokens = self.encode(self._pixels(clips).flatten(0, 1))
            pooled = pooled.unflatten(0, (len(clips), -1)).mean(1)
            return pooled, None if tokens is None else tokens.unflatten(0, (len(clips), -1)).flatten(1, 2)

    def _over_frames(self, run: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
        if not self.image:
            return run(self._pixels(clips))
        return run(self._pixels(clips).flatten(0, 1)).unflatten(0, (len(clips), -1)).mean(1)

    def _pixels(self, clips: Tensor) -> Tensor:
        channels, frames, height, width = self.clip_shape
        if clips.dim() != 5 or clips.shape[1] != channels:
            raise DataError(
                f"clips have shape {tuple(clips.shape)}; the model takes (batch, {channels}, frames, height, width)"
            )
        if self._fixed and tuple(clips.shape[2:]) != (frames, height, width):
            raise DataError(
                f"clips have {plural(clips.shape[2], 'frame')} of {clips.shape[3]} x {clips.shape[4]}; this network takes {frames} of {height} x {width}"
            )
        # (B, T, C, H, W) in plain order, as a processor hands it over: the kernels, and so the last bits, depend on it
        return clips.transpose(1, 2).contiguous()


class _Bare(nn.Module):
    """A network without the methods that answer for it."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net


class Dropping(nn.Module):
    """Mixed into a block's class: in training the whole block is skipped for some samples (stochastic depth).

    # differs: the papers drop the block's two branches one by one; with one draw for both the expectation is the same.
    """

    drop_probability = 0.0

    def forward(self, hidden: Tensor, *inputs: Any, **options: Any) -> Any:
        """As the block's own."""
        output = super().forward(hidden, *inputs, **options)
        if not (self.training and self.drop_probability):
            return output
        first = output[0] if isinstance(output, tuple) else output
        keep = 1 - self.drop_probability
        mask = torch.rand(len(first), *[1] * (first.dim() - 1), device=first.device, dtype=first.dtype) < keep
        mixed = hidden + (first - hidden) * mask / keep
        return (mixed, *output[1:]) if isinstance(output, tuple) else mixed


def drop_block(block: nn.Module, probability: float) -> None:
    """Make a block skip itself in training; its class changes, so that copies of it compute with their own weights."""
    if not probability:
        return
    kind = type(block)
    block.__class__ = type(
        kind.__name__, (Dropping, kind), {"__module__": kind.__module__, "drop_probability": probability}
    )


def hidden_tokens(output: Any) -> Tensor:
    """``last_hidden_state`` of a library's output."""
    return output.last_hidden_state
