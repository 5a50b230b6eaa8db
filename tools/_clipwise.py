"""Find clipwise: the installed package, or the sources beside this folder."""

import sys
from pathlib import Path

try:
    import clipwise  # noqa: F401
except ModuleNotFoundError:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
