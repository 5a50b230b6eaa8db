"""The one reader of pickles: plain data passes, code does not, and a small file can't ask for much memory."""

import collections
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from clipwise.errors import CheckpointError, DataError
from clipwise.io.unpickle import read_pickle, read_torch

SOURCE = Path(__file__).resolve().parents[2] / "src/clipwise"


def dump(path, value, protocol=2):
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_out_as_it_went_in(tmp_path, protocol):
    value = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": [1, 2.5, "ü", None, b"\xff", (True,)], "c": np.float64(3.5),
             "d": collections.OrderedDict(x=1), "e": torch.tensor([[1, 2], [3, 4]]), "f": bytearray(b"xy"),
             "g": np.array(["p", "q"]), "h": np.asfortranarray(np.eye(3))}  # fmt: skip
    found = read_pickle(dump(tmp_path / "x.pkl", value, protocol))
    for key, array in value.items():
        if isinstance(array, (np.ndarray, torch.Tensor)):
            assert found[key].dtype == array.dtype
            assert found[key].tolist() == array.tolist()
        else:
            assert found[key] == array


class Call:
    def __init__(self, call, *given):
        self.call, self.given = call, given

    def __reduce__(self):
        return self.call, self.given


@pytest.mark.parametrize(
    "call",
    [(os.system, "true"), (eval, "1"), (exec, "1"), (getattr, (), "count"), (torch.load, "x"), (open, "x"), (type, 1)],
    ids=lambda call: call[0].__name__,
)
def test_code_is_refused_by_name(tmp_path, call):
    path = dump(tmp_path / "x.pkl", [Call(*call)])
    with pytest.raises(DataError, match=r"its pickle asks for [\w.]+.*could run code|can't be read as a pickle"):
        read_pickle(path)
    torch.save({"w": torch.zeros(1), "meta": Call(*call)}, tmp_path / "x.pth")
    if call[0] is not getattr:  # torch files of MMEngine ask for it: an inert one answers
        with pytest.raises(CheckpointError, match=r"its pickle asks for [\w.]+.*could run code"):
            read_torch(tmp_path / "x.pth")


def array_of(shape):
    """What numpy's pickles call, with a shape that they never have."""
    return Call(np._core.multiarray._reconstruct, np.ndarray, shape, b"d")


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"w": array_of((2**36,))}, 2),
        pickle.dumps({"w": Call(np.ndarray, (2**36,))}, 2),
        pickle.dumps({"w": Call(bytearray, 2**39)}, 2),
        pickle.dumps({"w": Call(np._core.multiarray.scalar, np.dtype("V2000000000"))}, 2),
        b"\x80\x04\x8e" + struct.pack("<Q", 2**39) + b"abc.",  # that many bytes follow, says the file
        b"\x80\x02]r" + struct.pack("<I", 2**31 - 1) + b".",  # the memo has that many places
        b"\x80\x02]p2000000000\n.",
        pickle.dumps(
            {
                "w": Call(
                    torch._utils._rebuild_tensor_v2, torch.zeros(4).untyped_storage(), 0, (2**37,), (0,), False, {}
                )
            },
            2,
        ),
    ],
    ids=["shape", "constructor", "bytearray", "scalar", "bytes", "memo", "memo as text", "expanded tensor"],
)
def test_a_small_file_does_not_get_512_gib(tmp_path, content):
    """In a process that may take 4 GiB, so that touching the memory would end it."""
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    code = (
        "import resource, sys; import clipwise.io.unpickle as u\n"
        "resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
        "from clipwise.errors import DataError\n"
        f"try: print(u.read_pickle({str(path)!r}), {str(path)!r}); sys.exit(7)\n"
        "except DataError as error: print(error); sys.exit(7)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    assert str(path) in done.stdout
    assert done.stdout.count("\n") == 1


def rewrite(source, target, name, change, compress=False):
    """A copy of a torch archive with one record changed."""
    with (
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as new,
    ):
        for entry in old.namelist():
            data = old.read(entry)
            new.writestr(entry, change(data) if entry.endswith(name) else data)


def test_torch_files_that_stand_for_more_than_they_hold(tmp_path):
    torch.save({"a": torch.zeros(4)}, tmp_path / "good.pt")
    assert read_torch(tmp_path / "good.pt")["a"].tolist() == [0, 0, 0, 0]
    large = b"\x8a\x06" + (2**37).to_bytes(6, "little")
    for old, new in (
        (b"K\x04\x85q\x08K\x01\x85", large + b"\x85q\x08K\x00\x85"),
        (b"K\x04tq\x07Q", large + b"tq\x07Q"),
    ):
        rewrite(
            tmp_path / "good.pt", tmp_path / "bad.pt", "data.pkl", lambda data, old=old, new=new: data.replace(old, new)
        )
        with pytest.raises(CheckpointError, match=r"512 GiB|truncated or damaged"):
            read_torch(tmp_path / "bad.pt")
    rewrite(tmp_path / "good.pt", tmp_path / "bomb.pt", "data/0", lambda _: bytes(2**24), compress=True)
    with pytest.raises(CheckpointError, match="unpacks to 16,77"):
        read_torch(tmp_path / "bomb.pt")


def test_a_pickle_can_not_change_what_it_calls(tmp_path):
    """BUILD sets attributes: of a function it would last as long as the process."""
    content = b"\x80\x02ccollections\nCounter\n(NX\x06\x00\x00\x00updateK\x05s\x86b."
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(DataError):
        read_pickle(tmp_path / "x.pkl")
    assert callable(collections.Counter.update)


def test_damaged_files_end_in_one_sentence(tmp_path):
    """400 files with changed, lost and added bytes, most of them in the part that steers the reading."""
    tensors = {f"layer.{i}.weight": torch.arange(12.0).view(3, 4) for i in range(4)}
    torch.save({"meta": {"epoch": 1}, "state_dict": tensors}, tmp_path / "new.pth")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for protocol in (2, 4):
        dump(tmp_path / f"{protocol}.pkl", {name: value.numpy() for name, value in tensors.items()}, protocol)
    random, told = np.random.default_rng(0), []
    for number in range(400):
        source = [path for path in sorted(tmp_path.iterdir()) if path.stem != "x"][number % 4]
        data = bytearray(source.read_bytes())
        for _ in range(random.integers(1, 6)):
            place = int(random.integers(len(data)))
            kind = random.integers(3)
            data[place : place + (kind != 2)] = random.bytes(1) if kind else b""
        path = tmp_path / f"x{source.suffix}"
        path.write_bytes(data)
        try:
            (read_pickle if path.suffix == ".pkl" else read_torch)(path)
        except (DataError, CheckpointError) as error:
            told.append(str(error))
        path.unlink()
    assert len(told) > 100
    assert all(text.startswith(str(tmp_path / "x.")) and min(text) >= " " for text in told)


def test_there_is_one_reader_of_pickles():
    readers = (
        "pickle.load",
        "pickle.Unpickler",
        "torch.load(",
        "allow_pickle=True",
        "jit.load",
        "dill",
        "joblib",
        "marshal",
        "shelve",
    )
    texts = {path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    assert {path for path, text in texts.items() if any(reader in text for reader in readers)} == {"io/unpickle.py"}
