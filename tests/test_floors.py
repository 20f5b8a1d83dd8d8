"""The house rules that a machine can check: who may import whom, how long a file and a function may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "sightline"
FILES = sorted(SOURCE.rglob("*.py"))
FLOORS = {
    **dict.fromkeys(("config", "recipe", "errors", "geometry", "atomic"), 0),
    "ask": 1,
    **dict.fromkeys(("data", "model"), 2),
    **dict.fromkeys(("train", "infer", "synth", "convert", "exchange"), 3),
    **dict.fromkeys(("evaluate", "serve"), 4),
    "demo": 5,
    "cli": 6,
}
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    """The packages of sightline that a module imports, at any depth of its code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("sightline."))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_imports_only_from_its_own_package_or_lower_floors(path: Path) -> None:
    own = package_of(path)
    if own in ("__init__", "__main__"):
        return
    for other in imported(ast.parse(path.read_text())):
        assert other == own or FLOORS[other] < FLOORS[own] or FLOORS[own] == 0 == FLOORS[other], (
            f"{path.name} ({own}) imports sightline.{other}"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_file_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_opens_with_its_contract(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())) or not path.read_text().strip()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_pickle_remote_code_or_broad_except(path: Path) -> None:
    tree = ast.parse(path.read_text())
    reads_pickles = path == SOURCE / "exchange" / "pickled.py"  # foreign checkpoints, with weights_only
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            assert "pickle" not in names or reads_pickles
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            assert caught not in ("everything", "BaseException"), f"{path.name}:{node.lineno} catches {caught}"
            if caught == "Exception":
                assert path == SOURCE / "cli" / "__init__.py", f"{path.name}:{node.lineno} catches Exception"
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load" and not reads_pickles:
            raise AssertionError(f"{path.name}:{node.lineno} uses torch.load")
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            assert "weights_only=True" in ast.unparse(node)


def test_pictures_are_opened_in_one_place_only() -> None:
    openers = [path.name for path in FILES if "Image.open(" in path.read_text()]
    assert openers == ["image.py"]
