"""XML from files of others: no entities, no external files, bounded depth, and element by element, so that a large file fits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal
from xml.etree import ElementTree
from xml.parsers import expat

from clipwise.errors import DataError

MOST_DEPTH = 100
_BLOCK = 1 << 16
XmlEvent = tuple[Literal["start", "end"], ElementTree.Element]


def iterate_xml(file: IO[bytes], source: str | Path) -> Iterator[XmlEvent]:
    """Elements as they begin (with attributes) and end (with children), as ``ElementTree.iterparse`` gives them.

    Raises:
        DataError: broken XML, a file that declares entities, or elements nested more than ``MOST_DEPTH`` deep.
    """
    builder, events, depth = ElementTree.TreeBuilder(), list[XmlEvent](), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MOST_DEPTH:
            raise DataError(f"{source}: the XML is nested more than {MOST_DEPTH} elements deep.")
        events.append(("start", builder.start(tag.rpartition("}")[2], attributes)))

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        events.append(("end", builder.end(tag.rpartition("}")[2])))

    def refuse(name: str, *_: object) -> None:
        raise DataError(
            f"{source}: the XML declares the entity {name!r}, which could expand without bound or read other files. "
            "Annotation tools write none; remove the declaration."
        )

    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    parser.SkippedEntityHandler = refuse
    try:
        while block := file.read(_BLOCK):
            parser.Parse(block, False)
            yield from events
            events.clear()
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        reason = expat.errors.messages.get(error.code, str(error))
        raise DataError(f"{source}, line {error.lineno}: not valid XML ({reason}).") from None
    except (LookupError, ValueError) as error:  # an unknown encoding
        raise DataError(f"{source}: not readable XML ({error}).") from None
    yield from events


def read_xml(source: str | Path | bytes, name: str | Path | None = None) -> ElementTree.Element:
    """The root of a whole document: a path, or the text itself.

    Raises:
        DataError: as :func:`iterate_xml`; or no such file.
    """
    if isinstance(source, bytes):
        import io

        return _root(io.BytesIO(source), name or "XML text")
    try:
        with open(source, "rb") as file:
            return _root(file, source)
    except FileNotFoundError:
        raise DataError(f"{source} does not exist.") from None


def _root(file: IO[bytes], source: str | Path) -> ElementTree.Element:
    root = None
    for _, element in iterate_xml(file, source):
        root = root if root is not None else element
    assert root is not None  # expat refuses an empty document
    return root


def root_tag(path: str | Path) -> str | None:
    """Name of a document's first element, or None where the file does not begin as XML does."""
    with open(path, "rb") as file:
        try:
            return next(iterate_xml(file, path))[1].tag
        except (DataError, StopIteration):
            return None
