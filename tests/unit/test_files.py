"""A file is whole or not there; what killed processes leave is found and removed."""

import os
import subprocess
import sys

import pytest

from clipwise.errors import CheckpointError
from clipwise.io.files import atomic_path
from clipwise.io.unfinished import atomic_folder, growing_file, remove_stale


def break_off(path):
    path.write_text("half")
    raise ZeroDivisionError


def listing(folder):
    return sorted(os.listdir(folder))


def test_a_file_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("one")
        assert not target.exists()
    assert target.read_text() == "one"
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        break_off(temporary)
    assert (target.read_text(), listing(target.parent)) == ("one", ["a.txt"])
    with atomic_path(tmp_path / "list.csv", keep_suffix=True) as temporary:
        assert temporary.suffix == ".csv"
        temporary.write_text("x")
    with pytest.raises(CheckpointError, match="is a file, not a folder"), atomic_path(target / "b"):
        pass


def test_a_folder_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "frames"
    for text in ("one", "two"):
        with atomic_folder(target) as temporary:
            (temporary / text).write_text(text)
    assert (listing(tmp_path), listing(target)) == (["frames"], ["two"])
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as temporary:
        break_off(temporary / "three")
    assert (listing(tmp_path), listing(target)) == (["frames"], ["two"])


def test_a_growing_file_keeps_what_was_written_before_a_break(tmp_path):
    target = tmp_path / "rows.csv"
    with growing_file(target) as file:
        file.write("a\n")
        assert listing(tmp_path) == ["rows.csv.part"]
    assert listing(tmp_path) == ["rows.csv"]
    with pytest.raises(ZeroDivisionError), growing_file(target) as file:
        file.writelines(line if line else 1 / 0 for line in ("b\n", ""))
    assert (target.read_text(), (tmp_path / "rows.csv.part").read_text()) == ("a\n", "b\n")


def test_only_what_dead_processes_left_is_removed(tmp_path):
    script = (
        "import os, sys; from clipwise.io.files import atomic_path\nfrom clipwise.io.unfinished import atomic_folder\n"
        "a = atomic_path(sys.argv[1] + '/a.bin'); a.__enter__().write_text('half')\n"
        "b = atomic_folder(sys.argv[1] + '/b'); (b.__enter__() / 'c').write_text('half')\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == -9
    (tmp_path / ".hidden").write_text("a person's")
    (tmp_path / ".tmpAb12Cd").write_text("of safetensors")
    (tmp_path / ".a.bin.0badc0de-1-00000000.tmp").write_text("of another machine, just now")
    assert len(listing(tmp_path)) == 5
    with atomic_path(tmp_path / "d") as temporary:  # its writer lives
        temporary.write_text("whole")
        remove_stale(tmp_path)
        kept = listing(tmp_path)
    assert kept == [".a.bin.0badc0de-1-00000000.tmp", temporary.name, ".hidden", ".tmpAb12Cd"]
    remove_stale(tmp_path, alone=True)
    assert listing(tmp_path) == [".hidden", "d"]


def test_two_at_once_write_one_folder(tmp_path):
    """The later one replaces the earlier one's, whichever comes between."""
    from clipwise.io.unfinished import atomic_folder

    with atomic_folder(tmp_path / "f") as first:
        (first / "a").write_text("1")
        with atomic_folder(tmp_path / "f") as second:
            (second / "a").write_text("1")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f/a").read_text() == "1"


def test_two_at_once_do_not_mix_a_growing_file(tmp_path):
    pytest.importorskip("fcntl")
    with growing_file(tmp_path / "x.csv") as file:
        file.write("first")
        with (
            pytest.raises(CheckpointError, match="is being written by another command"),
            growing_file(tmp_path / "x.csv") as other,
        ):
            other.write("second")
    assert (tmp_path / "x.csv").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_a_folder_that_vanishes_while_left_overs_are_looked_for(tmp_path, monkeypatch):
    """Another command's unfinished folder, which is renamed between finding and reading it."""
    import clipwise.prepare.folder_work as module

    (tmp_path / "out/gone").mkdir(parents=True)
    real = module.remove_stale
    monkeypatch.setattr(module, "remove_stale", lambda f: (f.name == "gone" and f.rmdir(), real(f)))
    module.claim_folder(tmp_path / "out", {"a": 1}, overwrite=False)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipes_and_devices_are_not_replaced(tmp_path):
    """As root ``--csv /dev/stdout`` put a file in the device's place."""
    import threading

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="is a pipe or a device"), atomic_path(tmp_path / "pipe"):
        pass
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    with growing_file(tmp_path / "pipe") as file:
        file.write("row\n")
    reader.join(10)
    assert read == ["row\n"]
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
