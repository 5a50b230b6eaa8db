"""Configs in MMEngine's and mmcv's form (assignments in a .py file, ``_base_``), read without running a line of them.

The file's syntax tree is walked; literals, names, ``dict(…)``, f-strings, arithmetic and ``_base_.key`` have a value, anything else is
refused with its line. So a config from a stranger can do nothing but hold values.
"""

from __future__ import annotations

import ast
import copy
import operator
import re
from pathlib import Path
from typing import Any, NoReturn

from clipwise.errors import RecipeError

DELETE = "_delete_"  # in a dictionary: replace the base's instead of merging into it
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
             ast.FloorDiv: operator.floordiv}  # fmt: skip
LONGEST = 100_000  # items of what is added up or repeated, so that a few lines can't fill the memory
# '{{_base_.key}}' and {{ _base_.key }} mean _base_.key
REFERENCE = re.compile(r"""(["']?)\{\{\s*(_base_(?:\.\w+)+)\s*\}\}\1""")


def read_python_config(path: str | Path, _open: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The values of a config, with those of its ``_base_`` files below them.

    Dictionaries are merged key by key, everything else replaces what the base says, as MMEngine and mmcv do.

    Raises:
        RecipeError: a file is missing, bases go in a circle, or a line needs to be run to have a value.
    """
    path = Path(path)
    if path.resolve() in _open:
        raise RecipeError(f"{path}: its _base_ files lead back to itself.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: can't be read ({error}).") from None
    return read_config_text(text, path, _open)


def read_config_text(text: str, path: str | Path, _open: tuple[Path, ...] = ()) -> dict[str, Any]:
    """As :func:`read_python_config`, of a config's text; ``path`` names it, and its bases lie beside it."""
    path = Path(path)
    try:
        tree = ast.parse(REFERENCE.sub(r"\2", text), filename=str(path))
    except SyntaxError as error:
        raise RecipeError(f"{path}:{error.lineno}: not valid Python: {error.msg}.") from None
    except (RecursionError, MemoryError, ValueError) as error:
        raise RecipeError(f"{path}: not valid Python ({error}).") from None
    try:
        return _values(tree, path, _open)
    except RecursionError:
        raise RecipeError(f"{path}: an expression in it is nested too deep to be read.") from None


def _values(tree: ast.Module, path: Path, _open: tuple[Path, ...]) -> dict[str, Any]:
    reader = _Reader(path)
    base: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a docstring
        if not isinstance(statement, ast.Assign):
            reader.refuse(statement, "configs are read, not run, and may hold only `name = value` lines")
        value = reader.value(statement.value)
        for target in statement.targets:
            reader.assign(target, value)
        if getattr(statement.targets[0], "id", None) == "_base_":
            files = [value] if isinstance(value, str) else value
            if not isinstance(files, list | tuple) or not all(isinstance(f, str) for f in files):
                reader.refuse(statement, "_base_ must be a file or a list of files")
            for file in files:
                base = merge(base, read_python_config(path.parent / file, (*_open, path.resolve())))
            reader.names["_base_"] = base
    reader.names.pop("_base_", None)
    return merge(base, reader.names)


def merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """``top`` over ``base``: dictionaries key by key, unless the upper one says ``_delete_=True``."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if isinstance(value, dict):
            below = below if isinstance(below, dict) and not value.get(DELETE) else {}
            value = merge(below, {k: v for k, v in value.items() if k != DELETE})
        merged[key] = value
    return merged


class _Reader:
    """Values of expressions, in the names that the file has assigned so far."""

    def __init__(self, path: Path):
        self.path = path
        self.names: dict[str, Any] = {}

    def refuse(self, node: ast.AST, why: str) -> NoReturn:
        raise RecipeError(f"{self.path}:{getattr(node, 'lineno', 0)}: `{ast.unparse(node)[:60]}`: {why}.")

    def assign(self, target: ast.expr, value: Any) -> None:
        """``name = value`` and ``name[key] = value``."""
        if isinstance(target, ast.Name):
            self.names[target.id] = value
        elif isinstance(target, ast.Subscript) and isinstance(owner := self.value(target.value), dict):
            owner[self.key(target.slice)] = value
        else:
            self.refuse(target, "only names and keys of dictionaries can be assigned to")

    def key(self, node: ast.expr) -> Any:
        """A value that a dictionary takes as a key."""
        if isinstance(found := self.value(node), str | int | float):
            return found
        self.refuse(node, "keys are text or numbers")

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None):
                return node.value
            case ast.List() | ast.Tuple():
                items = [self.value(item) for item in node.elts]
                return items if isinstance(node, ast.List) else tuple(items)
            case ast.Dict():
                return self.dictionary(node, [(k and self.key(k), v) for k, v in zip(node.keys, node.values)])
            case ast.Call(func=ast.Name(id="dict"), args=[] | [_]):
                inner: list[tuple[Any, ast.expr]] = [(None, arg) for arg in node.args]
                return self.dictionary(node, [*inner, *((k.arg, k.value) for k in node.keywords)])
            case ast.Call(func=ast.Attribute(value=owner, attr="copy"), args=[], keywords=[]):
                return copy.copy(self.value(owner))
            case ast.Call(func=ast.Name(id="range"), args=[_, *_], keywords=[]):
                limits = [self.value(arg) for arg in node.args]
                if (
                    all(isinstance(v, int) and abs(v) <= LONGEST for v in limits)
                    and len(limits) <= 3
                    and 0 not in limits[2:]
                ):
                    return list(range(*limits))
            case ast.JoinedStr():
                text = "".join(str(self.value(part)) for part in node.values)
                if len(text) <= LONGEST:
                    return text
            case ast.FormattedValue(conversion=-1, format_spec=None):
                return self.value(node.value)
            case ast.Name() if node.id in self.names:
                return self.names[node.id]
            case ast.Attribute() | ast.Subscript():
                owner = self.value(node.value)
                key = node.attr if isinstance(node, ast.Attribute) else self.value(node.slice)
                try:
                    return owner[key]
                except (KeyError, IndexError, TypeError):
                    self.refuse(node, f"there is no {key!r} here")
            case ast.UnaryOp(op=ast.USub() | ast.Not()):
                operand = self.value(node.operand)
                if isinstance(operand, int | float):
                    return not operand if isinstance(node.op, ast.Not) else -operand
            case ast.BinOp() if type(node.op) in OPERATORS:
                left, right = self.value(node.left), self.value(node.right)
                numbers = all(isinstance(v, int | float) for v in (left, right))
                joined = isinstance(node.op, ast.Add) and type(left) is type(right) and isinstance(left, str | list | tuple)  # fmt: skip
                joined = joined and len(left) + len(right) <= LONGEST
                repeated = isinstance(node.op, ast.Mult) and isinstance(left, list) and right in range(LONGEST)
                repeated = repeated and len(left) * right <= LONGEST
                if numbers or joined or repeated:
                    try:
                        result = OPERATORS[type(node.op)](left, right)
                    except (ArithmeticError, ValueError):
                        self.refuse(node, "this has no value")
                    if not isinstance(result, int) or result.bit_length() <= 64:
                        return result
        self.refuse(node, "configs are read, not run, and this has no value without running it")

    def dictionary(self, node: ast.expr, items: list[tuple[Any, ast.expr]]) -> dict[Any, Any]:
        """``{…}`` or ``dict(…)``; an item without a key is ``**other``."""
        found: dict[Any, Any] = {}
        for key, item in items:
            value = self.value(item)
            if key is not None:
                found[key] = value
            elif isinstance(value, dict):
                found |= value
            else:
                self.refuse(node, "what follows ** is not a dictionary")
        return found
