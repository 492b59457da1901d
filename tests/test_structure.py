"""Promises about the code's shape: imports point one way, heavy packages load late, and the command starts fast."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = (
    ("cli",),
    ("doctor", "machine_code", "history"),
    ("measure", "verdict", "report"),
    ("claims",),
    ("predict",),
    ("records",),
    ("cases", "machine"),
    ("units", "errors", "stats", "__init__"),
)
"""From the top down. A package imports from layers below its own, and from itself."""

MEASURED, JUDGED_ELSEWHERE = ("measure", "verdict"), ("claims", "predict")
"""What is measured, and how runs are compared, rests on nothing that is only predicted or said."""

PARTS = "mla_kernels.layer_parts"
"""What a layer is made of and what it costs: arithmetic, which the cases share with the kernels."""

HEAVY = ("torch", "triton", "pandas", "matplotlib", "numpy", "pynvml", "jinja2", "rich", "bokeh")


def imported_packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for module in modules:
            parts = module.split(".")
            if parts[0] == "mlabench":
                found.add(parts[1] if len(parts) > 1 else "__init__")
            elif parts[0] == "mla_kernels":
                found.add(module if module == PARTS else "mla_kernels")
    return found


def layer_of(package: str) -> int:
    return next(depth for depth, packages in enumerate(LAYERS) if package in packages)


@pytest.mark.parametrize("path", sorted((ROOT / "mlabench").glob("*/**/*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(ROOT / "mlabench").parts[0]
    for package in imported_packages(path) - {own}:
        if package == "mla_kernels":
            assert own == "measure"
        elif package == PARTS:
            assert own in ("cases", "measure")
        else:
            assert layer_of(package) > layer_of(own), f"{own} imports {package}"
            assert package not in JUDGED_ELSEWHERE or own not in MEASURED, f"{own} imports {package}"


def test_kernels_know_nothing_of_the_suite() -> None:
    for path in (ROOT / "kernels" / "mla_kernels").glob("*.py"):
        assert not imported_packages(path) - {"mla_kernels", PARTS}, path


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys, mlabench.cli.app; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_no_top_level_package_named_kernels() -> None:
    assert not (ROOT / "kernels" / "__init__.py").exists()
