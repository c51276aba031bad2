"""The file of a profile, which says at which scale pages are run, checked before it is used."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

EVERY_PAGE, AS_REPORT = "every_page", "as_report"  # keys of a profile beside pages and parameters

Sections = dict[str, dict[str, Any]]
Lines = dict[tuple[str, ...], int]  # by page, and by page and parameter


class _Loader(yaml.SafeLoader):
    """YAML without code, in which a key that comes twice is an error: one would be ignored."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else id(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key} comes twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read(path: Path, fields: dict[str, set[str]], check: Callable[[str, dict], Any]) -> Sections:
    """A profile's sections, each a page's parameters.

    fields: the names of each page's parameters; check: raises ValueError for values that a page
    does not take. Raises ValueError naming the file, and where there is one the line, for what is
    no profile, and for a page, parameter or value that there is not.
    """
    said, lines = _parsed(path)
    for place, what in _wrong(said, fields, check):
        line = next((lines[place[:n]] for n in (2, 1) if place[:n] in lines), 1)
        raise ValueError(f"{path}, line {line}: {what}")
    return said


def _parsed(path: Path) -> tuple[Any, Lines]:
    try:
        loader = _Loader(path.read_text())
        node = loader.get_single_node()
        return None if node is None else loader.construct_document(node), _lines(node)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else f"{path}"
        what = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ValueError(f"{where} is no profile: {what}") from error


def _lines(node: yaml.Node | None) -> Lines:
    """Where each section and each of its parameters is."""
    found: Lines = {}
    for page, own in node.value if isinstance(node, yaml.MappingNode) else ():
        found[str(page.value),] = page.start_mark.line + 1
        for name, _ in own.value if isinstance(own, yaml.MappingNode) else ():
            found[str(page.value), str(name.value)] = name.start_mark.line + 1
    return found


def _wrong(
    said: Any, fields: dict[str, set[str]], check: Callable[[str, dict], Any]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong: its place, and a sentence."""
    if not isinstance(said, dict):
        yield (), "a profile has sections, each with parameters"
        return
    for page, own in said.items():
        if page != EVERY_PAGE and page not in fields:
            yield (str(page),), f"there is no page {page}; choose from {', '.join(fields)}"
        if not isinstance(own, dict):
            yield (str(page),), f"the section {page} must have parameters, each with its value"
            return
        for name, value in own.items():
            what = _wrong_value(page, name, value, fields, check)
            if what:
                yield (str(page), str(name)), what


def _wrong_value(page: str, name: Any, value: Any, fields, check) -> str:
    """What is wrong with one parameter of a section, "" if nothing is."""
    if name == AS_REPORT and page != EVERY_PAGE:
        if isinstance(value, list) and all(one in [*fields[page]] for one in value):
            return ""
        return f"{name} must be a list of parameters of {page}"
    pages = [one for one, own in fields.items() if page in (one, EVERY_PAGE) and name in own]
    if not pages:
        return f"{page} has no parameter {name}"
    try:
        for one in pages:
            check(one, {name: value})
    except ValueError as error:
        return str(error)
    return ""
