"""CUDA graphs without CUDA: a stand-in records the kernels of a capture and their order, and replays exactly those into the same memory."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import clipwise
from clipwise.infer import cuda_graphs
from clipwise.infer.cuda_graphs import MOST, WARM, GraphedNetwork, with_graphs
from clipwise.models import create_model


class Recorder(TorchDispatchMode):
    """Every operation of a capture, with the tensors that it read and wrote."""

    def __init__(self, graph):
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.graph.operations.append((func, args, kwargs or {}, out))
        return out


class StandIn:
    """``torch.cuda`` as far as graphs need it; ``log`` holds the order of what was asked."""

    def __init__(self):
        self.log = log = []

        class Stream:
            def wait_stream(self, other):
                log.append("wait")

        class Graph:
            def __init__(self):
                self.operations = []

            def replay(self):
                log.append("replay")
                for func, args, kwargs, out in self.operations:
                    again = func(*args, **kwargs)
                    for old, new in zip(_tensors(out), _tensors(again)):
                        if old.data_ptr() != new.data_ptr():
                            old.copy_(new)

        @contextmanager
        def stream(beside):
            log.append("beside")
            yield

        @contextmanager
        def graph(captured):
            log.append("capture")
            try:
                with Recorder(captured):
                    yield
            finally:
                log.append("captured")

        self.Stream, self.CUDAGraph, self.stream, self.graph = Stream, Graph, stream, graph
        self.current_stream = Stream


def _tensors(value):
    return (
        [value]
        if isinstance(value, torch.Tensor)
        else [v for v in value if isinstance(v, torch.Tensor)]
        if isinstance(value, (tuple, list))
        else []
    )


def graphed(network, said=None):
    streams = StandIn()
    return GraphedNetwork(network.eval(), streams=streams, say=(said if said is not None else []).append), streams


@pytest.mark.parametrize("name", ["tsm_tiny", "slowonly_tiny"])
def test_replays_are_the_eager_networks_bits(name):
    torch.manual_seed(0)
    network = create_model(name, num_classes=5)
    model, streams = graphed(network)
    with torch.no_grad():
        for number in range(WARM + 4):
            x = torch.randn(1, 3, 8, 32, 32)
            assert torch.equal(model(x), network(x)), number
    assert streams.log == ["wait", "beside", "wait", "capture", "captured", *["replay"] * 4]


def test_a_localizers_outputs_are_all_copied():
    """BMN gives several maps; a result that is kept must not change with the next replay."""
    torch.manual_seed(0)
    network = create_model("bmn", feat_dim=8, temporal_dim=8, hidden_dim=16, matching_dim=16, map_dim=8)
    model, streams = graphed(network)
    inputs = [torch.randn(1, 8, 8) for _ in range(WARM + 3)]
    with torch.no_grad():
        kept = [model(x) for x in inputs]
        for outputs, x in zip(kept, inputs):
            for one, other in zip(outputs, network(x), strict=True):
                assert torch.equal(one, other)
    assert streams.log.count("replay") == 3


def test_shapes_are_captured_apart_and_changing_ones_are_named():
    said: list[str] = []
    network = torch.nn.Linear(4, 3)
    model, streams = graphed(network, said)
    with torch.no_grad():
        for rows in range(1, MOST + 3):
            for _ in range(WARM + 1):
                x = torch.randn(rows, 4)
                assert torch.equal(model(x), network(x))
    assert streams.log.count("capture") == MOST
    assert [text for text in said if "eagerly" in text] == [
        f"CUDA graphs: input ({rows}, 4) is computed eagerly: {MOST} shapes are captured already."
        for rows in (MOST + 1, MOST + 2)
    ]


def test_what_cannot_be_captured_is_computed_and_said_once():
    class Waits(torch.nn.Module):
        def forward(self, x):
            if streams.log[-1:] == ["capture"]:
                raise RuntimeError("operation not permitted when stream is capturing\nmore")
            return x * 2

    said: list[str] = []
    model, streams = graphed(Waits(), said)
    with torch.no_grad():
        for _ in range(WARM + 4):
            assert torch.equal(model(torch.ones(2)), torch.full((2,), 2.0))
    assert said == ["CUDA graphs: input (2,) is computed eagerly: operation not permitted when stream is capturing"]


def test_training_autocast_and_attributes():
    network = create_model("tsm_tiny", num_classes=5)
    model, streams = graphed(network)
    assert model.num_classes == 5
    assert model.views_before_softmax == network.views_before_softmax
    x = torch.randn(1, 3, 8, 32, 32)
    for _ in range(WARM + 2):
        model(x).sum().backward()  # gradients: eager
    assert streams.log == []
    with torch.no_grad():
        for _ in range(WARM + 1):
            model(x)
        with torch.autocast("cpu", torch.bfloat16):
            for _ in range(WARM + 2):
                assert torch.equal(model(x), network(x))
    assert streams.log.count("capture") == 2


def test_the_verbs_switch(trained, clips, capsys):
    """On a CPU the option says that it has no effect; on CUDA the predictor's network is wrapped."""
    from clipwise.cli import main

    video = str(next((clips / "val").rglob("*.mp4")))
    assert main(["predict", str(trained), video, "--cuda-graphs"]) == 0
    assert "--cuda-graphs has no effect on cpu." in capsys.readouterr().err
    predictor = clipwise.load(trained, device="cpu")
    expected = predictor(video).scores
    owner = SimpleNamespace(device=torch.device("cuda"), model=predictor.model)
    assert isinstance(with_graphs(owner).model, GraphedNetwork)
    predictor.model, streams = graphed(predictor.model)
    for _ in range(WARM + 3):
        assert np.array_equal(predictor(video).scores, expected)
    assert streams.log[-1] == "replay"
    assert cuda_graphs.WARM == 3
