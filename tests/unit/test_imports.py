"""Dependencies point one way, and the core imports nothing but the core's libraries."""

import ast
import graphlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "clipwise"

# What each room may import of ours, besides itself, clipwise.errors and clipwise.io (which everybody may).
# Bottom to top; a room may use those below it.
LAYERS = [
    {"recipe", "video"},
    {"data"},
    {"tasks"},
    {"models"},
    {"convert", "prepare"},
    {"engine"},
    {"infer"},
    {"export"},
    {"analyze", "report"},
    {"serve"},
]
ROOMS = [room for layer in LAYERS for room in layer]
# Optional libraries that a room's modules may import at their top, since the room itself is entered by one command only.
OPTIONAL = {("serve", name) for name in ("fastapi", "starlette", "multipart", "prometheus_client")}
TOP = {"__init__", "__main__", "cli"}  # these may import everything; nobody imports them


def parts(path: Path) -> tuple[str, ...]:
    return path.relative_to(SOURCE).with_suffix("").parts


def nodes(tree: ast.AST, types: bool):
    """All below a node; without ``types`` not what stands under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(tree):
        if types or not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from nodes(child, types)


def imports(path: Path, types: bool = True) -> set[str]:
    """Dotted names of ours that a file imports anywhere, without the leading ``clipwise.``."""
    package = ["clipwise", *parts(path)[:-1]]
    found = set()
    for node in nodes(ast.parse(path.read_text(encoding="utf-8")), types):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.add(module)
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("clipwise.") for name in found if name.startswith("clipwise.")}


def module_names() -> set[str]:
    return {".".join(parts(path)) for path in SOURCE.rglob("*.py")} | {
        ".".join(path.parent.relative_to(SOURCE).parts) for path in SOURCE.rglob("__init__.py")
    }


FILES = sorted(path for path in SOURCE.rglob("*.py") if parts(path)[0] not in TOP)


def allowed(room: str) -> set[str]:
    """The rooms that ``room`` may import."""
    if room == "errors":
        return set()
    if room == "io":
        return {"errors", ""}
    level = next(i for i, layer in enumerate(LAYERS) if room in layer)
    return {room, "errors", "io", ""}.union(*LAYERS[:level])


@pytest.mark.parametrize("path", FILES, ids=lambda p: ".".join(parts(p)))
def test_imports_point_one_way(path):
    room = parts(path)[0]
    for name in sorted(imports(path) & module_names()):
        target = name.split(".")[0]
        assert target in {*allowed(room), room}, f"{'.'.join(parts(path))} imports clipwise.{name}"


def test_no_module_is_imported_by_what_it_imports():
    """Imports inside functions count: they would only hide a circle."""
    modules = module_names()
    names = {path: ".".join(parts(path)).removesuffix(".__init__") for path in FILES}
    graph = {name: (imports(path, types=False) & modules) - {name} for path, name in names.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_every_room_has_a_rule():
    assert {parts(path)[0] for path in FILES} == {*ROOMS, "errors", "io"}


def test_the_core_needs_only_the_cores_libraries():
    """Everything else is imported inside the function that needs it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {item.split(">")[0].split("<")[0].split("=")[0].strip() for item in project["dependencies"]}
    allowed = {*names, "yaml", *sys.stdlib_module_names, "clipwise"}
    for path in SOURCE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            found = []
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found = [node.module or ""]
            for name in found:
                library = name.split(".")[0]
                if (parts(path)[0], library) not in OPTIONAL:
                    assert library in allowed, f"{path.name} imports {name} when it is imported itself"


def test_the_command_line_starts_without_torch():
    code = "import sys, clipwise.cli; clipwise.cli.main(['--help']); sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
