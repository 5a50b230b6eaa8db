"""Checksums of exported files: a damaged one is refused before a runtime opens it.

A ``.pt2`` is a ZIP archive with a checksum of each record. An ``.onnx`` file gets one more metadata entry at its end, the SHA-256 of
everything before it: in protobuf, appended bytes are one more field of the message, so that every reader still takes the file.
OpenVINO's ``.xml`` ends with a comment that holds the SHA-256 of everything before it and of the ``.bin`` beside it.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path

from clipwise.errors import CheckpointError

SEALED = "clipwise_sealed"
"""Metadata key of an ONNX or OpenVINO file that has a checksum at its end."""
_KEY = b"clipwise_sha256"
_SIZE = 66  # 64 digits in quotes: all our metadata are JSON
# ModelProto.metadata_props (field 14) of StringStringEntryProto: key (1), value (2); all lengths below 128
_ENTRY = b"\x0a" + bytes([len(_KEY)]) + _KEY + b"\x12" + bytes([_SIZE])
_FIELD = b"\x72" + bytes([len(_ENTRY) + _SIZE]) + _ENTRY


def seal_onnx(path: Path) -> None:
    """Append the checksum of an ONNX file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with open(path, "ab") as file:
        file.write(_FIELD + f'"{digest}"'.encode("ascii"))


def seal_openvino(path: Path) -> None:
    """Append the checksum of OpenVINO's ``.xml`` and ``.bin``."""
    body = path.read_bytes()
    with open(path, "ab") as file:
        file.write(_openvino_seal(body, path.with_suffix(".bin").read_bytes()))


def _openvino_seal(graph: bytes, weights: bytes) -> bytes:
    return f"<!-- {_KEY.decode()} {hashlib.sha256(graph + weights).hexdigest()} -->\n".encode("ascii")


def check_exported(path: Path) -> None:
    """Compare an ``.onnx``, ``.pt2`` or OpenVINO ``.xml`` file with its checksums. Files that other programs or 0.1 wrote may have none.

    Raises:
        CheckpointError: the file is damaged.
    """
    reason = {".onnx": _onnx_damage, ".pt2": _archive_damage, ".xml": _openvino_damage}[path.suffix](path)
    if reason:
        raise CheckpointError(
            f"{path} is damaged, or was changed since it was exported: {reason}. Copy or export it again."
        )


def _onnx_damage(path: Path) -> str | None:
    data = path.read_bytes()
    body, end = data[: -len(_FIELD) - _SIZE], data[-len(_FIELD) - _SIZE :]
    if end.startswith(_FIELD):
        same = f'"{hashlib.sha256(body).hexdigest()}"'.encode("ascii") == end[len(_FIELD) :]
        return None if same else "it does not match its checksum"
    return "its checksum is not at its end" if SEALED.encode() in data or _KEY in data else None


def _openvino_damage(path: Path) -> str | None:
    data, weights = path.read_bytes(), path.with_suffix(".bin")
    if not weights.is_file():
        return f"its weights, {weights.name}, are not beside it"
    size = len(_openvino_seal(b"", b""))
    body, end = data[:-size], data[-size:]
    if end.startswith(b"<!-- " + _KEY):
        return (
            None if end == _openvino_seal(body, weights.read_bytes()) else "it or its .bin does not match its checksum"
        )
    return "its checksum is not at its end" if SEALED.encode() in data or _KEY in data else None


def _archive_damage(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
        return str(error)
    return f"its record {record} does not match its checksum" if record else None
