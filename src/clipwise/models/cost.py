"""What a network costs: parameters, multiplications, memory. Counted on the meta device, where nothing is computed.

One MAC is one multiplication with its addition; two FLOPs. Convolutions and linear layers are counted as the papers and
MMAction2's tables do, attention's matrix products apart (MMAction2's counter leaves them out, fvcore's adds them). Norms,
activations, pooling and the shift of TSM are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Costs of one input of a network.

    Attributes:
        parameters, trainable: numbers of weights.
        macs: multiply-accumulate operations of convolutions and linear layers, in evaluation.
        attention_macs: those of matrix products between activations.
        weight_bytes: parameters and buffers.
        saved_bytes: activations that a training step keeps for its backward pass, for one input in fp32.
    """

    parameters: int
    trainable: int
    macs: int
    attention_macs: int
    weight_bytes: int
    saved_bytes: int

    def training_bytes(self, batch_size: int, optimizer: str = "sgd") -> int:
        """Lower bound of a training step's memory: weights, gradients, optimizer state, saved activations.

        What libraries use on top (workspaces, fragmentation, the gradients of activations) is not in it.
        """
        copies = {"sgd": 2, "adam": 3, "adamw": 3}[optimizer]  # gradient and momentum; gradient and two moments
        return self.weight_bytes + 4 * copies * self.trainable + batch_size * self.saved_bytes


def measure_cost(
    make: Callable[[], nn.Module],
    shape: Sequence[int],
    train_shape: Sequence[int] | None = None,
    device: str | None = None,
) -> Cost:
    """Count the cost of a model on one input.

    Args:
        make: builds the model; called under the device.
        shape: input of one view without the batch: (C, T, H, W), or (F, L) of features.
        train_shape: the same in training; ``shape`` if not given.
        device: where; by default "meta", which computes nothing, or "cpu" if the model says that it needs numbers
            (``counts_on_meta``).
    """
    with torch.device(device or "meta"):
        model = make()
    if device is None and not getattr(model, "counts_on_meta", True):
        device = "cpu"
        model = make()
    with torch.device(device or "meta"):
        clip, train_clip = torch.zeros(1, *shape), torch.zeros(2, *(train_shape or shape))
    counter = FlopCounterMode(display=False)
    model.eval()
    with counter, torch.no_grad():
        model(clip)
    counts = {str(op): flops // 2 for op, flops in counter.get_flop_counts().get("Global", {}).items()}
    attention = sum(n for op, n in counts.items() if op.endswith(("bmm", "attention")))
    parameters = list(model.parameters())
    return Cost(
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        macs=sum(counts.values()) - attention,
        attention_macs=attention,
        weight_bytes=sum(t.numel() * t.element_size() for t in model.state_dict().values()),
        saved_bytes=_saved_bytes(model.train(), train_clip) // 2,
    )


def training_flops(make: Callable[[], nn.Module], shape: Sequence[int]) -> int:
    """FLOPs of a forward and a backward pass of one input, auxiliary outputs included.

    Args:
        make: builds the model; called under the meta device, or on the CPU if the model needs numbers.
        shape: one input of training, without the batch.
    """
    with torch.device("meta"):
        model, inputs = make(), torch.zeros(2, *shape)
    if not getattr(model, "counts_on_meta", True):
        model, inputs = make(), torch.zeros(2, *shape)
    counter = FlopCounterMode(display=False)
    with counter:
        outputs = model.train()(inputs)
        sum(part.sum() for part in (outputs if isinstance(outputs, (tuple, list)) else (outputs,))).backward()
    return counter.get_total_flops() // 2


def _saved_bytes(model: nn.Module, clips: torch.Tensor) -> int:
    """Bytes that autograd keeps, each storage once, without the weights (which are kept anyway)."""
    own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}
    alive = []  # a storage that were freed could give its identity to the next one

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
            alive.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(clips)
    return sum(kept.values())
