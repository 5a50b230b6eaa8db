"""Trained models as files for other runtimes: ONNX, torch.export, AOTInductor, OpenVINO.

``graphs`` is what goes into a file, ``writers`` makes the formats, ``compare`` holds a file against the network it came
from, ``export_model`` does all three and keeps the file only if it passes, ``runtimes`` runs the files.
"""

__all__ = ["SUFFIXES"]

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "openvino": ".xml"}
"""How the files of each format end."""
