"""The core without what only POSIX systems have: as on Windows, and with processes that start anew, as on Windows and macOS."""

import subprocess
import sys

# what Windows' Python lacks; names that a library below us needs at import stay
WINDOWS = """
import importlib.abc, os, signal, sys
import torch, av, accelerate, psutil, multiprocessing  # they know their systems themselves
import clipwise
ours = os.path.dirname(clipwise.__file__)
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "termios", "pwd", "grp", "tty", "pty"):
            frame = sys._getframe(1)
            while "importlib" in frame.f_code.co_filename:
                frame = frame.f_back
            if ours in frame.f_code.co_filename:
                raise ImportError(name)
for name in ("fcntl", "resource", "termios", "pwd", "grp", "tty", "pty"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Absent())
def absent(name, real):
    def call(*args):
        if ours in sys._getframe(1).f_code.co_filename:
            raise AttributeError(name)
        return real(*args)
    return call
for name in ("getuid", "geteuid", "sysconf", "sched_getaffinity", "setsid", "killpg", "getpgid", "mkfifo", "statvfs", "fork"):
    setattr(os, name, absent(name, getattr(os, name)))
for name in ("sigwaitinfo", "SIGHUP", "SIGUSR1", "SIGALRM", "setitimer", "SIGKILL"):
    delattr(signal, name)
del os.register_at_fork, os.uname, os.posix_fadvise
flags = __import__("fcntl").fcntl
def fsync(descriptor, real=os.fsync):
    if not flags(descriptor, 3) & 3:  # F_GETFL: open for reading only
        raise OSError(9, "Bad file descriptor")
    return real(descriptor)
os.fsync = fsync
def kill(pid, number, real=os.kill):  # torch ends a slow worker so; on Windows it has another call for it
    if ours in sys._getframe(1).f_code.co_filename:
        raise AssertionError("os.kill on Windows sends Ctrl+C or terminates")
    return real(pid, number)
os.kill = kill
import builtins, pathlib
def linux_only(real, answer):
    def call(place, *args, **kwargs):
        if str(place).startswith(("/proc", "/dev/shm")) and ours in sys._getframe(1).f_code.co_filename:
            return answer(place)
        return real(place, *args, **kwargs)
    return call
def missing(place):
    raise FileNotFoundError(2, "No such file", str(place))
builtins.open = linux_only(open, missing)
pathlib.Path.read_text = linux_only(pathlib.Path.read_text, missing)
os.path.isdir = linux_only(os.path.isdir, lambda place: False)
class Memory:
    peak_wset = 64 * 2**20
psutil.Process.memory_info = lambda self: Memory()
"""
RUN = """
if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    from clipwise.cli import main
    words = ["epochs=1", "warmup_epochs=0", "batch_size=8", "num_workers=1", "val.batch_size=8"]
    data, out, video = sys.argv[1:]
    assert main(["train", "tsm_tiny", "--data", data, "--work-dir", out, *words]) == 0
    assert main(["predict", out + "/last.safetensors", video]) == 0
    assert main(["doctor"]) == 0
"""


def test_the_core_works_without_posix(clips, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(WINDOWS + RUN, encoding="utf-8")
    video = str(next((clips / "val").rglob("*.mp4")))
    words = [sys.executable, str(script), str(clips), str(tmp_path / "run"), video]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
