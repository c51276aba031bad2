"""The house as the architecture has it: arrows go down only, and no file is too long to read."""

import ast
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "reluprime"
TOPICS = {path.parent.name for own in ("study", "grids") for path in HOUSE.glob(f"*/{own}.py")}
# Folders and lone files of the package from the ground up; those of one floor do not know each
# other, but for what `MAY_KNOW` says.
FLOORS = (
    {"config"},
    {"instruments"},
    {"records"},
    {"evidence"},
    {"check", "parameters", "testing"},
    TOPICS,
    {"report"},
    {"cli"},
    {"__main__"},
)
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
# Their networks are trained as `training` trains them.
MAY_KNOW = {topic: {"training"} for topic in ("dose", "search", "mechanism", "network")}
# What is measured for its speed is what other topics compute.
MAY_KNOW["speed"] = {"training", "volume", "network"}
MOST_LINES = 300


def files():
    return sorted(path for path in HOUSE.rglob("*.py") if path != HOUSE / "__init__.py")


def part_of(name):
    """The folder or lone file of the package that a module is in: of reluprime.volume.study volume.

    None for the package itself, whose `__init__` lists what is public.
    """
    words = name.split(".")
    return words[1] if words[0] == "reluprime" and len(words) > 1 else None


def imported(path):
    """The modules of the package that a file imports, also where a function does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if part_of(name)}


def own_part(path):
    return path.relative_to(HOUSE).with_suffix("").parts[0]


def may_import(own, other):
    """Whether files of one part may import another: itself, a lower floor, or by exception."""
    return own == other or FLOOR[other] < FLOOR[own] or other in MAY_KNOW.get(own, ())


def test_every_part_has_its_floor():
    assert {own_part(path) for path in files()} == FLOOR.keys()


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_file_imports_what_is_below_it(path):
    own = own_part(path)
    others = {part_of(name) for name in imported(path)} & FLOOR.keys()
    assert not {other for other in others if not may_import(own, other)}


def test_no_folder_knows_one_that_knows_it():
    """Among the topics too, where floors cannot say it."""
    knows = {(own_part(path), part_of(name)) for path in files() for name in imported(path)}
    knows = {(own, other) for own, other in knows if own != other}
    assert not {(own, other) for own, other in knows if (other, own) in knows}


def private_uses(path):
    """Private names of other modules that a file imports, or reads from a module it imports."""
    tree = ast.parse(path.read_text())
    names = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and part_of(node.module)
        for alias in node.names
    }
    read = {
        f"{names[node.value.id]}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id in names and names[node.value.id].rpartition(".")[2].islower()
    }
    names = (name.rpartition(".") for name in imported(path) | read)
    return {f"{module}.{name}" for module, _, name in names if name[:1] == "_" != name[1:2]}


def test_no_module_uses_a_private_name_of_another():
    found = set().union(*map(private_uses, files()))
    assert not found


def test_a_file_is_read_in_one_sitting():
    lengths = {str(path.relative_to(HOUSE)): len(path.read_text().splitlines()) for path in files()}
    assert not {name: n for name, n in lengths.items() if n > MOST_LINES}
