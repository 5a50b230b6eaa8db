"""The formats: one function each, from a graph and its description to a file."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from clipwise.errors import ClipwiseError, MissingExtraError, WorkError
from clipwise.export.checksum import SEALED, seal_onnx, seal_openvino
from clipwise.export.graphs import KEY, Description, random_input


def write_onnx(graph: nn.Module, description: Description, path: Path) -> None:
    """ONNX by torch's graph exporter, free in the batch, weights in the one file.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        WorkError: the network can't be expressed.
    """
    onnx = _need("onnx", "ONNX export")
    _need("onnxscript", "ONNX export")
    with _quiet(), _failure("ONNX"):
        program = torch.onnx.export(
            capture(graph, description),
            dynamo=True,
            input_names=[description.input],
            output_names=description.outputs,
            verbose=False,
        )
        assert program is not None
        program.save(str(path), external_data=False)
    model = onnx.load(str(path))
    _forget_sources(model)
    _name_batch(model)
    onnx.helper.set_model_props(model, {**description.to_properties(), SEALED: '"sha256"'})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    seal_onnx(path)


def write_torch(graph: nn.Module, description: Description, path: Path, *, aot: bool = False) -> None:
    """torch.export's archive; with ``aot`` compiled to machine code of this machine's kind (needs a C++ compiler).

    Raises:
        WorkError: the network can't be captured or compiled.
    """
    with _quiet(), _failure("torch.export"):
        program = capture(graph, description)
        if aot:
            metadata = {"aot_inductor.metadata": description.to_properties()}
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=metadata)
        else:
            # Not straight into the file: on a full disk PyTorch's writer ends the whole process.
            archive = io.BytesIO()
            torch.export.save(program, archive, extra_files={f"{KEY}.json": json.dumps(description.to_properties())})
            path.write_bytes(archive.getbuffer())


def write_openvino(source: Path, description: Description, path: Path) -> None:
    """OpenVINO's intermediate representation (``.xml`` and, beside it, ``.bin``) from an ONNX file, quantized or not.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    ov = _need("openvino", "OpenVINO export", extra="openvino")
    with _failure("OpenVINO"):
        model = ov.convert_model(str(source))
        for key, value in {**description.to_properties(), SEALED: '"sha256"'}.items():
            model.set_rt_info(value, [KEY, key])
        ov.save_model(model, str(path), compress_to_fp16=False)
        seal_openvino(path)


def quantize_onnx(source: Path, path: Path, description: Description, clips: Iterable[np.ndarray]) -> None:
    """Static int8 quantization: 8-bit weights a channel, 8-bit activations in ranges seen on the calibration clips.

    Args:
        source: the fp32 file.
        clips: inputs of the graph, (1, …) each.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ClipwiseError: no clips.
    """
    onnx = _need("onnx", "int8 quantization")
    _need("onnxruntime", "int8 quantization")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self, values: Iterable[np.ndarray]):
            self.values = iter(values)
            self.count = 0

        def get_next(self) -> dict[str, np.ndarray] | None:
            value = next(self.values, None)
            self.count += value is not None
            return None if value is None else {description.input: value}

    reader = Reader(clips)
    prepared = path.with_name(f"prepared-{path.name}")
    try:
        with _quiet(), _failure("int8 quantization"):
            # Folds the norms into the convolutions, so that they are quantized as one.
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(path),
                reader,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Gemm", "Add", "MaxPool"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        prepared.unlink(missing_ok=True)
    if not reader.count:
        raise ClipwiseError("int8 quantization needs calibration clips: --calibration LIST or FOLDER.")
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {**description.to_properties(), SEALED: '"sha256"'})
    onnx.save(model, str(path))
    seal_onnx(path)


def capture(graph: nn.Module, description: Description) -> torch.export.ExportedProgram:
    """The graph with a free batch. Two samples are used: with one, a size of 1 would be taken for a constant."""
    batch = torch.export.Dim("batch", min=1, max=2**16)
    device = next(graph.parameters()).device
    example = random_input(description, 2).to(device)
    with torch.no_grad():
        return torch.export.export(graph, (example,), dynamic_shapes=({0: batch},))


def _forget_sources(model: Any) -> None:
    """Drop the stack traces (with this machine's paths) that torch writes to every node."""
    del model.metadata_props[:]
    for graph in (model.graph, *model.functions):
        for item in (*graph.node, *getattr(graph, "input", []), *getattr(graph, "output", []), *graph.value_info):
            if hasattr(item, "metadata_props"):
                del item.metadata_props[:]
    for item in model.graph.initializer:
        del item.metadata_props[:]
    del model.graph.metadata_props[:]


def _name_batch(model: Any) -> None:
    """Call the free dimension ``batch`` wherever it stands alone."""
    free = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for item in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in item.type.tensor_type.shape.dim:
            if free and dim.dim_param:
                dim.dim_param = dim.dim_param.replace(free, "batch")


def _need(module: str, purpose: str, extra: str = "export") -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(module, extra, purpose) from None


@contextlib.contextmanager
def _failure(what: str) -> Iterator[None]:
    try:
        yield
    except (ClipwiseError, WorkError, KeyboardInterrupt, OSError):
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()
        if reason and "Constraints violated" in reason[0]:
            reason = [
                "the network computes with the batch it was shown as a constant. len(x), int(x.shape[0]) and loops over x do so; "
                "x.shape[0], x.new_zeros(…) and expand keep it free."
            ]
        raise WorkError(
            f"{what} failed, no file was written: {reason[0] if reason else type(error).__name__}"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' remarks (torchvision absent, opset chosen, shapes inferred) off the user's terminal."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
