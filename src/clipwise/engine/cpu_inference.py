"""A large network's fastest form for testing on a CPU: norms inside of the convolutions, activations and shortcuts at their end.

The network is exported as a graph for a few views at a time, which bounds its memory. In that graph a norm becomes part of the weights
before it, and a ReLU or a shortcut's sum part of the convolution that oneDNN computes; weights are stored once as oneDNN reads
them. Scores agree with the network's own to about 1e-6 in fp32, which is looked at; a network that can't be fused computes as it is.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from clipwise.engine.cpu_kernels import keep_memory
from clipwise.engine.network import LARGE

_ATEN = torch.ops.aten
_VIEWS = {_ATEN.transpose.int, _ATEN.flatten.using_ints, _ATEN.unflatten.int, _ATEN.view.default, _ATEN.reshape.default}
"""What moves values and keeps a map's channels second."""
PIXELS = 2**19
"""Of the input, over all frames of the views that go through the network at once."""
TOLERANCE, BF16_TOLERANCE = 1e-4, 0.1
"""Of the largest score, how far the fused form's may lie from the network's own in fp32."""


def fastest(model: nn.Module, amp: str) -> tuple[nn.Module, str]:
    """The form that tests a network fastest on a CPU, and the precision of the autocast around it.

    Small networks stay what they are, for making the graph would take longer than it saves; so do those without norms to fold.
    """
    norms = any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    if not norms or sum(parameter.numel() for parameter in model.parameters()) < LARGE:
        return model, amp
    keep_memory()
    return FusedNetwork(model, amp == "bf16"), "no"


class FusedNetwork(nn.Module):
    """The same function of clips (B, C, T, H, W), for evaluation.

    Args:
        model: in eval mode, on the CPU.
        bf16: weights and activations in bf16.

    Attributes:
        view_budget: values of views that are given to it at once.
    """

    view_budget = 3 * PIXELS

    def __init__(self, model: nn.Module, bf16: bool = False):
        super().__init__()
        self.model, self.bf16 = [model], bf16  # in a list: its weights are not this module's
        self.views_before_softmax = getattr(model, "views_before_softmax", False)
        self.graphs: dict[tuple[int, ...], fx.GraphModule] = {}
        self.obstacle = ""

    @property
    def form(self) -> str:
        """What computes, for the log."""
        precision = "bf16" if self.bf16 else "fp32"
        if self.obstacle:
            return f"the network as it is, {precision} ({self.obstacle})"
        return f"norms, activations and shortcuts fused into the convolutions, {precision}"

    def forward(self, clips: Tensor) -> Tensor:
        count = min(len(clips), max(1, PIXELS // clips[0, 0].numel()))
        logits = []
        for part in clips.split(count):
            # the last views are filled up, as a graph is of one size
            whole = torch.cat([part, part[:1].expand(count - len(part), *part.shape[1:])])
            logits.append(self._compute(whole)[: len(part)])
        return torch.cat(logits)

    def _compute(self, clips: Tensor) -> Tensor:
        shape = tuple(clips.shape)
        if shape not in self.graphs and not self.obstacle:
            self._add_graph(clips)
        if self.obstacle:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                return self.model[0](clips).float()
        return self.graphs[shape](clips).float()

    def _add_graph(self, clips: Tensor) -> None:
        """Make the graph of clips of one shape, and compare it with the network on these."""
        try:
            with torch.inference_mode(False):
                graph = fuse(self.model[0], torch.zeros(clips.shape), self.bf16)
            found, wanted = graph(clips).float(), torch.cat([self.model[0](clip).float() for clip in clips.split(1)])
        except Exception as error:  # whatever a stranger's network does that a graph can't hold
            self.obstacle = f"it can't be fused: {(str(error) or type(error).__name__).splitlines()[0]}"
            return
        difference = float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
        if not difference < (BF16_TOLERANCE if self.bf16 else TOLERANCE):
            self.obstacle = f"fused scores differ by {difference:.1e} of the largest"
            return
        self.graphs[tuple(clips.shape)] = graph


@torch.no_grad()
def fuse(model: nn.Module, clips: Tensor, bf16: bool) -> fx.GraphModule:
    """The graph of a network for one shape of input."""
    exported = torch.export.export(model, (clips,)).module(check_guards=False)
    graph = exported.graph
    for norm in graph.find_nodes(op="call_function", target=_ATEN.batch_norm.default):
        conv = _source(norm.args[0])
        if conv is not None:
            _fold(exported, conv, norm)
    for relu in graph.find_nodes(op="call_function", target=_ATEN.relu.default):
        total = relu.args[0]
        conv = _source(total)
        if conv is not None:
            conv.meta["relu"] = True
            relu.replace_all_uses_with(total)
            graph.erase_node(relu)
        elif total.target == _ATEN.add.Tensor and len(total.users) == 1 and len(total.args) == 2:
            _join_shortcut(graph, relu, total)
    for conv in graph.find_nodes(op="call_function", target=_ATEN.conv2d.default):
        _prepack(exported, conv, bf16)
    if bf16:
        _to_bf16(exported)
    graph.eliminate_dead_code()
    exported.delete_all_unused_submodules()
    exported.recompile()
    return exported


def _source(node: Any) -> fx.Node | None:
    """The convolution whose values these are, if nobody else reads them on the way."""
    while isinstance(node, fx.Node) and len(node.users) == 1:
        if node.target == _ATEN.conv2d.default and "other" not in node.meta and "relu" not in node.meta:
            return node
        if node.target not in _VIEWS:
            return None
        node = node.args[0]
    return None


def _join_shortcut(graph: fx.Graph, relu: fx.Node, total: fx.Node) -> None:
    """relu(conv + shortcut) -> one operation, in place of the later of the two."""
    order: dict[Any, int] = {node: number for number, node in enumerate(graph.nodes)}
    first, second = sorted(total.args, key=lambda node: order.get(node, -1))
    if not isinstance(second, fx.Node) or first not in order or _source(second) is not second:
        return  # a number is added, or something moves the convolution's values
    second.meta["other"] = first
    relu.replace_all_uses_with(second)
    graph.erase_node(relu)
    graph.erase_node(total)


def _value(owner: nn.Module, node: Any) -> Any:
    """The tensor that a node stands for, or None."""
    return operator.attrgetter(str(node.target))(owner).detach() if isinstance(node, fx.Node) else None


def _fold(owner: fx.GraphModule, conv: fx.Node, norm: fx.Node) -> None:
    """Leave a norm's scale and shift to the convolution before it."""
    scale, shift, mean, var = (_value(owner, node) for node in norm.args[1:5])
    training, eps = norm.args[5], norm.args[7]
    if training or var is None or "norm" in conv.meta:
        return
    conv.meta["norm"] = scale, shift, mean, var, eps
    norm.replace_all_uses_with(norm.args[0])  # type: ignore[arg-type]
    owner.graph.erase_node(norm)


def _folded(weight: Tensor, bias: Tensor | None, norm: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    """Weights and bias that do what the convolution and the norm after it did."""
    scale, shift, mean, var, eps = norm
    factor = torch.rsqrt(var.double() + eps)
    if scale is not None:
        factor = factor * scale.double()
    moved = ((0 if bias is None else bias.double()) - mean.double()) * factor
    if shift is not None:
        moved = moved + shift.double()
    return (weight.double() * factor[:, None, None, None]).float(), moved.float()


def _prepack(owner: fx.GraphModule, conv: fx.Node, bf16: bool) -> None:
    """Replace a convolution by oneDNN's own, with weights as it wants them."""
    defaults: list[Any] = [None, None, None, [1, 1], [0, 0], [1, 1], 1]
    given: list[Any] = list(conv.args)
    x, weight_node, bias_node, stride, padding, dilation, groups = given + defaults[len(given) :]
    weight, bias = _value(owner, weight_node), _value(owner, bias_node)
    if isinstance(padding, str) or weight is None:
        return
    if "norm" in conv.meta:  # only now, so that the weights of one convolution at a time exist twice
        weight, bias = _folded(weight, bias, conv.meta["norm"])
    dtype = torch.bfloat16 if bf16 else torch.float32
    size = list(x.meta["val"].shape)
    packed = torch.ops.mkldnn._reorder_convolution_weight(weight.to(dtype), padding, stride, dilation, groups, size)
    shift = None if bias is None else bias.to(dtype)
    relu, other = conv.meta.get("relu", False), conv.meta.get("other")
    if other is not None:
        other = other.meta.get("replaced_by", other)

    if other is None:

        def call(x: Tensor) -> Tensor:
            return torch.ops.mkldnn._convolution_pointwise(
                x, packed, shift, padding, stride, dilation, groups, "relu" if relu else "none", [], ""
            )
    else:

        def call(x: Tensor, other: Tensor) -> Tensor:  # type: ignore[misc]
            return torch.ops.mkldnn._convolution_pointwise(
                x, other, packed, shift, padding, stride, dilation, groups, "add", 1.0, "relu", [], ""
            )

    with owner.graph.inserting_before(conv):
        new = owner.graph.call_function(call, (x, other) if other is not None else (x,))
    new.meta["val"], conv.meta["replaced_by"] = conv.meta["val"], new
    conv.replace_all_uses_with(new)
    owner.graph.erase_node(conv)


def _to_bf16(owner: fx.GraphModule) -> None:
    """Input and the weights of what is left in bf16; norms keep fp32 weights."""
    graph = owner.graph
    for start in graph.find_nodes(op="placeholder"):
        with graph.inserting_after(start):
            cast = graph.call_function(_ATEN.to.dtype, (start, torch.bfloat16))
        start.replace_all_uses_with(cast, delete_user_cb=lambda user, cast=cast: user is not cast)
    for node in list(graph.find_nodes(op="get_attr")):
        readers = [user for user in node.users if user.target != _ATEN.batch_norm.default]
        if readers and (value := _value(owner, node)) is not None and value.is_floating_point():
            with graph.inserting_after(node):
                cast = graph.call_function(_ATEN.to.dtype, (node, torch.bfloat16))
            for user in readers:
                user.replace_input_with(node, cast)
