"""What pyproject.toml says is what the package needs and what the README promises."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from packaging.requirements import Requirement
from setuptools import find_packages

from reluprime.records import REPOSITORY

PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
VERSIONS = ["3.11", "3.12", "3.13", "3.14"]


def test_the_versions_of_python_are_said_alike():
    assert PROJECT["requires-python"] == ">=3.11,<3.15"
    said = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python ::" in c]
    assert said == VERSIONS
    for name in ("README.md", "Makefile"):
        assert "Python 3.11 to 3.14" in (REPOSITORY / name).read_text()


def imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) else []


def test_every_package_that_is_imported_is_declared():
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["report"]]
    asked += [d for n in ("vision", "cluster") for d in PROJECT["optional-dependencies"][n]]
    declared = {re.match(r"[\w-]+", name)[0].lower() for name in asked}
    names = {
        name.partition(".")[0]
        for path in (REPOSITORY / "reluprime").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in imported(node)
    }
    foreign = names - set(sys.stdlib_module_names) - {"reluprime"}
    assert "yaml" in foreign
    found = packages_distributions()
    for name in foreign:
        assert declared & {own.lower() for own in found.get(name, [])}, name


def test_the_locked_versions_are_among_those_that_are_declared():
    """And what scipy lacked before 1.15, the argument `rng`, is not in the range."""
    lock = (REPOSITORY / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==([^ ]+)", lock, re.M))
    extras = PROJECT["optional-dependencies"]
    declared = [*PROJECT["dependencies"], *(d for own in extras.values() for d in own)]
    asked = {r.name: r.specifier for r in map(Requirement, declared) if r.name != "reluprime"}
    assert not [name for name, versions in asked.items() if locked[name] not in versions]
    assert "1.14.1" not in asked["scipy"]


def test_every_package_is_locked_by_its_hashes_and_from_no_named_place():
    lock = (REPOSITORY / "requirements.lock").read_text()
    for line in lock.replace("\\\n", " ").splitlines():
        assert re.fullmatch(r"[\w.-]+==[^ ]+( ; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+", line), (
            line
        )
    assert "--require-hashes -r requirements.lock" in (REPOSITORY / "Makefile").read_text()


def test_every_folder_is_in_the_wheel():
    where = PYPROJECT["tool"]["setuptools"]["packages"]["find"]
    found = find_packages(str(REPOSITORY), include=where["include"])
    folders = {path.parent for path in (REPOSITORY / "reluprime").rglob("*.py")}
    assert {REPOSITORY.joinpath(*name.split(".")) for name in found} == folders


# A function mode is called with whatever a function of PyTorch's is, and its documentation turns
# modes off inside one by a name that begins with an underscore.
MODES = {"check/watch.py", "check/functions.py"}


def test_torch_is_used_by_its_public_names():
    """But for a hook of torchvision and the base of the batch norms, which have no public names."""
    private = re.compile(r"torch\._[a-zA-Z]|_foreach_|_functorch|_conv_forward|\*args|\*\*kwargs")
    for path in (REPOSITORY / "reluprime").rglob("*.py"):
        if path.relative_to(REPOSITORY / "reluprime").as_posix() in MODES:
            continue
        assert not private.findall(path.read_text()), path
