"""The public API: a change of it is deliberate.

``public_api.txt`` holds every public name with its signature. After a change that was meant: ``python tests/unit/test_public.py`` writes
the file again, and the difference goes into CHANGELOG.md.
"""

import ast
import importlib
import importlib.resources
import pkgutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import clipwise
from clipwise.io.deprecation import DEPRECATED, deprecated, removal_version

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).with_name("public_api.txt")
PACKAGES = sorted(
    ["clipwise", *(m.name for m in pkgutil.walk_packages(clipwise.__path__, "clipwise.", lambda name: None) if m.ispkg)]
)


def described(module: str, name: str) -> list[str]:
    """A public name as its source declares it."""
    package = importlib.import_module(module)
    value = getattr(package, name)
    home = getattr(value, "__module__", None)
    if not isinstance(value, type) and not callable(value):
        return [f"{module}.{name}"]
    if home is None or not str(home).startswith("clipwise"):
        return [f"{module}.{name}"]
    tree = ast.parse(Path(sys.modules[home].__file__).read_text(encoding="utf-8"))
    found = next((node for node in tree.body if getattr(node, "name", None) == value.__name__), None)
    if found is None:  # a bound method (register_…)
        return [f"{module}.{name}(…)"]
    if not isinstance(found, ast.ClassDef):
        return [f"{module}.{signature(found, name)}"]
    lines = [f"class {module}.{name}({', '.join(map(ast.unparse, found.bases))})"]
    for node in found.body:
        if isinstance(node, ast.FunctionDef) and (
            not node.name.startswith("_") or node.name in ("__init__", "__call__")
        ):
            marks = [ast.unparse(d) for d in node.decorator_list if ast.unparse(d) in ("property", "classmethod")]
            lines.append(f"    {' '.join([*marks, signature(node, node.name)])}")
        elif isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
            lines.append(f"    {ast.unparse(node)}")
    return lines


def signature(node: ast.FunctionDef, name: str) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{name}({ast.unparse(node.args)}){returns}"


def surface() -> str:
    """Of ``clipwise`` and ``clipwise.video``; other packages are for those who build on the parts."""
    return "".join(
        f"{line}\n"
        for package in ("clipwise", "clipwise.video")
        for name in sorted(importlib.import_module(package).__all__)
        for line in described(package, name)
    )


def test_the_public_api_is_the_committed_one():
    known, now = SNAPSHOT.read_text(encoding="utf-8").splitlines(), surface().splitlines()
    gone, new = [line for line in known if line not in now], [line for line in now if line not in known]
    assert known == now, (
        "the public API changed. If that is meant, run `python tests/unit/test_public.py` and name the change in CHANGELOG.md; what leaves "
        "the API warns first (clipwise.io.deprecation).\n"
        + "\n".join([*(f"- {x}" for x in gone), *(f"+ {x}" for x in new)])
    )


def test_every_public_name_is_there_and_listed():
    assert set(dir(clipwise)) == set(clipwise.__all__) == {"__version__", *clipwise._PUBLIC}
    for name in clipwise.__all__:
        assert getattr(clipwise, name) is not None


def test_type_checkers_see_what_is_there_at_run_time():
    tree = ast.parse(Path(clipwise.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    static = {alias.asname or alias.name: node.module for node in block.body for alias in node.names}
    assert static == clipwise._PUBLIC


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_is_and_what_is_public(package):
    module = importlib.import_module(package)
    assert module.__doc__
    assert module.__doc__[0] not in " \n"
    assert all(hasattr(module, name) for name in module.__all__)


def test_every_public_function_and_class_has_a_docstring():
    for name in set(clipwise.__all__) - {"__version__", "Recipe"}:
        assert getattr(clipwise, name).__doc__, name


def test_what_is_deprecated_warns_for_two_minor_versions(monkeypatch):
    assert (removal_version("0.3"), removal_version("1.9")) == ("0.5", "1.11")
    monkeypatch.setattr("clipwise.io.deprecation.DEPRECATED", {})

    @deprecated("0.3", "other()")
    def old(x):
        """Doc."""
        return x + 1

    with pytest.warns(
        DeprecationWarning, match=r"old is deprecated since clipwise 0\.3 and will be removed in 0\.5; use other\(\)"
    ) as seen:
        assert old(1) == 2
    assert seen[0].filename == __file__  # the caller's line
    assert old.__doc__ == "Doc."


def test_nothing_deprecated_outstays_its_time():
    now = tuple(int(part) for part in clipwise.__version__.split(".")[:2])
    for package in PACKAGES:
        importlib.import_module(package)
    late = [name for name, gone in DEPRECATED.items() if tuple(map(int, gone.split("."))) <= now]
    assert not late, "remove them, or move the version on later"


def test_the_package_is_typed():
    assert importlib.resources.files("clipwise").joinpath("py.typed").is_file()


def test_importing_the_package_imports_no_torch():
    code = "import sys, clipwise; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'av')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    SNAPSHOT.write_text(surface(), encoding="utf-8")
    print(f"wrote {SNAPSHOT}")
