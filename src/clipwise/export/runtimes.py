"""Run exported files: the same predictor as for a checkpoint, with another engine under it.

>>> predictor = load_exported("tsm.onnx")
>>> predictor("video.mp4").top(3)

Sampling, resizing, cropping and the views' average are the predictor's; the file's description says how.
"""

from __future__ import annotations

import os
import zipfile
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clipwise.engine.checkpoint import Passport
from clipwise.errors import CheckpointError, ClipwiseError, DataError, MissingExtraError
from clipwise.export import SUFFIXES
from clipwise.export.checksum import check_exported
from clipwise.export.graphs import KEY, Description
from clipwise.infer.predictor import Predictor
from clipwise.io.devices import pick_device
from clipwise.io.parse import parse_json
from clipwise.io.plugins import is_trusted


class ExportedModel(nn.Module):
    """A file that computes: tensors in, tensors out, on the device that they came on.

    Attributes:
        description: the file's own account of itself.
        takes_frames: the graph normalizes; it wants uint8 frames (B, T, H, W, C), not clips.
        views_before_softmax: as of the network that was exported.
        backend: name of the runtime, with what it runs on.
    """

    backend = ""

    def __init__(self, description: Description, source: Path):
        super().__init__()
        self.description, self.source = description, source
        self.takes_frames = description.dtype == "uint8"
        self.views_before_softmax = description.views_before_softmax

    @abstractmethod
    def run(self, x: Tensor) -> list[Tensor]:
        """The graph's outputs."""

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Any:
        """Logits (B, K); for BMN the triple (confidence, start, end).

        Raises:
            DataError: the input has another shape or type than the graph.
        """
        about = self.description
        kind = str(x.dtype).removeprefix("torch.")
        if list(x.shape[1:]) != about.shape or kind != about.dtype:
            raise DataError(
                f"{self.source}: the input is {kind} of shape {tuple(x.shape)}; this file takes {about.dtype} of "
                f"(batch, {', '.join(map(str, about.shape))})."
            )
        outputs = [out.to(x.device) for out in self.run(x)]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


class OnnxModel(ExportedModel):
    """ONNX Runtime."""

    def __init__(self, path: Path, device: torch.device, threads: int | None = None):
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtraError("onnxruntime", "export", f"running {path}") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self_session = onnxruntime.InferenceSession(str(path), options, providers=_providers(onnxruntime, device))
        except ClipwiseError:
            raise
        except Exception as error:  # onnxruntime has no common base class
            raise CheckpointError(f"{path} can't be read as ONNX: {_first_line(error)}.") from None
        super().__init__(Description.from_properties(self_session.get_modelmeta().custom_metadata_map, path), path)
        self.session = self_session
        self.backend = f"onnxruntime {self.session.get_providers()[0].removesuffix('ExecutionProvider').lower()}"

    def run(self, x: Tensor) -> list[Tensor]:
        feed = {self.description.input: np.ascontiguousarray(x.cpu().numpy())}
        return [torch.from_numpy(out) for out in self.session.run(None, feed)]


class OpenVinoModel(ExportedModel):
    """OpenVINO on the CPU.

    Args:
        amp: ``no`` computes in fp32; ``bf16`` in bfloat16 (OpenVINO's own default where the CPU can).
    """

    def __init__(self, path: Path, amp: str = "no", threads: int | None = None):
        try:
            import openvino
        except ImportError:
            raise MissingExtraError("openvino", "openvino", f"running {path}") from None
        try:
            core = openvino.Core()
            model = core.read_model(str(path))
            about = model.get_rt_info(KEY) if model.has_rt_info(KEY) else None
        except Exception as error:
            raise CheckpointError(f"{path} can't be read as OpenVINO: {_first_line(error)}.") from None
        properties = {} if about is None else {key: str(value) for key, value in about.value.items()}
        super().__init__(Description.from_properties(properties, path), path)
        hints = {
            "INFERENCE_PRECISION_HINT": {"no": "f32", "bf16": "bf16", "fp16": "f16"}[amp],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
        }
        self.request = core.compile_model(model, "CPU", hints).create_infer_request()
        self.backend = "openvino cpu"

    def run(self, x: Tensor) -> list[Tensor]:
        # copied: the arrays are the request's own memory, which the next call overwrites
        results = self.request.infer({0: np.ascontiguousarray(x.cpu().numpy())})
        return [torch.from_numpy(np.array(results[i])) for i in range(len(self.description.outputs))]


class TorchExportModel(ExportedModel):
    """A torch.export archive, run by eager kernels."""

    def __init__(self, path: Path, device: torch.device):
        files = {f"{KEY}.json": ""}
        try:
            program = torch.export.load(str(path), extra_files=files)
        except Exception as error:
            raise CheckpointError(f"{path} can't be read as a torch.export archive: {_first_line(error)}.") from None
        properties = parse_json(files[f"{KEY}.json"] or "{}")
        super().__init__(Description.from_properties(properties, path), path)
        if device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        # in a tuple: as a submodule it would be told to train() or eval(), which an exported graph refuses
        self.graph, self.place = (program.module(),), device
        self.backend = f"torch.export {device.type}"

    def run(self, x: Tensor) -> list[Tensor]:
        outputs = self.graph[0](x.to(self.place))
        return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]


class AotModel(ExportedModel):
    """An AOTInductor package: machine code for the kind of device that it was compiled on."""

    def __init__(self, path: Path, device: str | None):
        try:
            package = torch._inductor.aoti_load_package(str(path))
        except Exception as error:
            raise CheckpointError(f"{path} can't be loaded as an AOTInductor package: {_first_line(error)}.") from None
        super().__init__(Description.from_properties(package.get_metadata(), path), path)
        self.package, self.place = package, pick_device(device or self.description.device)
        if self.place.type != self.description.device:
            raise ClipwiseError(
                f"{path} was compiled for {self.description.device}, so it can't run on {self.place.type}; "
                f"export it there with --aot --device {self.place.type}."
            )
        self.backend = f"aotinductor {self.place.type}"

    def run(self, x: Tensor) -> list[Tensor]:
        outputs = self.package(x.to(self.place))
        return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]


def load_exported_model(
    path: str | os.PathLike,
    device: str | None = None,
    *,
    amp: str = "no",
    threads: int | None = None,
    trust: bool = False,
) -> tuple[ExportedModel, Passport]:
    """The network of an exported file and the passport in its metadata.

    Args:
        path: ``.onnx``, ``.pt2`` or ``.xml``.
        device: as ``--device``; ONNX Runtime needs a build that knows it. OpenVINO runs on the CPU.
        amp: mixed precision, which only OpenVINO can choose when it loads.
        threads: of the CPU runtimes; torch's number if not given.
        trust: whether a ``.pt2`` may be loaded, which can run code.

    Raises:
        CheckpointError: the file can't be read, does not describe itself, or is a ``.pt2`` without trust.
        MissingExtraError: its runtime is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist.")
    if path.suffix not in SUFFIXES.values():
        raise CheckpointError(f"{path}: exported files end in {', '.join(SUFFIXES.values())}.")
    if amp != "no" and path.suffix != ".xml":
        raise ClipwiseError(
            f"--amp {amp}: the precision of {path.name} was fixed when it was exported; OpenVINO files alone can change it."
        )
    if path.suffix == ".pt2" and not (trust or is_trusted()):
        raise CheckpointError(
            f"{path} was not opened: loading a .pt2 can run code that is in it (torch.export unpickles its constants, a compiled package "
            "is machine code). If you made it or trust who did, allow it: --trust on the command line, trust=True in Python. An .onnx "
            "file holds no code."
        )
    check_exported(path)
    if path.suffix == ".xml":
        model: ExportedModel = OpenVinoModel(path, amp, threads)
    elif path.suffix == ".onnx":
        model = OnnxModel(path, pick_device(device or "cpu"), threads)
    elif _is_aot(path):
        model = AotModel(path, device)
    else:
        model = TorchExportModel(path, pick_device(device))
    return model.eval(), model.description.read_passport()


def load_exported(
    path: str | os.PathLike,
    device: str | None = None,
    *,
    amp: str = "no",
    max_views: int | None = None,
    trust: bool = False,
) -> Predictor:
    """A predictor on an exported recognizer; like :func:`clipwise.load` on its checkpoint.

    Args:
        trust: as in :func:`load_exported_model`.

    Raises:
        CheckpointError: the file can't be used.
    """
    model, passport = load_exported_model(path, device, amp=amp, trust=trust)
    place = model.place if isinstance(model, (TorchExportModel, AotModel)) else torch.device("cpu")
    return Predictor(model, passport, device=place, max_views=max_views)


def _providers(onnxruntime: Any, device: torch.device) -> list[str]:
    """ONNX Runtime's name of a device, then its CPU for operators that the device lacks."""
    available = onnxruntime.get_available_providers()
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    found = [name for name in available if name.lower().startswith({"npu": "cann"}.get(device.type, device.type))]
    if not found:
        raise ClipwiseError(
            f"this build of onnxruntime can't use {device.type}; it has: {', '.join(available)}. "
            "Install the build for your device, or give --device cpu."
        )
    return [found[0], "CPUExecutionProvider"]


def _is_aot(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/data/aotinductor/" in f"/{name}" for name in archive.namelist())
    except zipfile.BadZipFile:
        raise CheckpointError(f"{path} is damaged, or no torch.export archive.") from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
