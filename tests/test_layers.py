"""The order of the packages: each imports only packages that stand below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rbft_plugin"
# From the top down. Packages of one row do not import each other.
ORDER = (
    ("cli",),
    ("demo",),
    ("report",),
    ("run",),
    ("check", "rationales"),
    ("llamafactory",),
    ("lmms_eval",),
    ("model",),
    ("data",),
    ("clips",),
    ("spec",),
    ("scoring",),
    ("workspace",),
    ("files",),
    ("errors",),
)
FLOOR = {name: number for number, row in enumerate(ORDER) for name in row}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
LONGEST = 255  # lines of a module


def room(module: str) -> str:
    """The package of a module of rbft, or the module itself where it stands in none."""
    return module.split(".")[1]


def imports(path: Path) -> Iterator[str]:
    """The modules of rbft that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("rbft_plugin."))
        elif isinstance(node, ast.ImportFrom) and node.module == "rbft_plugin":
            yield from (f"rbft_plugin.{alias.name}" for alias in node.names if alias.name != "__version__")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rbft_plugin."):
            for alias in node.names:
                inner = PACKAGE.joinpath(*node.module.split(".")[1:], f"{alias.name}.py")
                yield f"{node.module}.{alias.name}" if inner.is_file() else node.module


def dotted(path: Path) -> str:
    return ".".join(("rbft_plugin", *path.relative_to(PACKAGE).with_suffix("").parts))


def test_every_package_has_its_place() -> None:
    assert {room(dotted(path)) for path in MODULES} == set(FLOOR)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_imports_only_what_stands_below_it(path: Path) -> None:
    own = room(dotted(path))
    wrong = [name for name in imports(path) if room(name) != own and FLOOR[room(name)] <= FLOOR[own]]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {dotted(path): set(imports(path)) for path in MODULES}
    while free := [name for name, wanted in graph.items() if not wanted & set(graph)]:
        for name in free:
            del graph[name]
    assert graph == {}


def test_no_module_is_long() -> None:
    lines = {dotted(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}
