"""The suite's kernels at another commit, read from its table without running it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlabench.measure.kernels import Kernel
from mlabench.measure.sources import root_of

TABLE = "mlabench/measure/kernels.py"

_ROOT = Path(__file__).resolve().parents[2]
_FIELDS = tuple(Kernel.__dataclass_fields__)
_DEVICES = Kernel.__dataclass_fields__["devices"].default


@dataclass(frozen=True, slots=True)
class BaseKernel:
    """What a row of the table says, be its kernel there today or not."""

    name: str
    contract: str
    devices: tuple[str, ...]


def is_own(folder: Path) -> bool:
    """Whether a package in this folder is of the suite's own repository."""
    return root_of(folder) == root_of(_ROOT)


def read_kernels(tree: Path) -> tuple[BaseKernel, ...]:
    """The rows of `KERNELS` in a working tree; empty where it has no such table of literals."""
    try:
        module = ast.parse((tree / TABLE).read_text(encoding="utf-8"))
        return tuple(_read_row(call) for call in _rows(module))
    except (OSError, SyntaxError, ValueError, KeyError):
        return ()


def _rows(module: ast.Module) -> Iterator[ast.Call]:
    for node in module.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "KERNELS" for target in targets):
            yield from (call for call in getattr(node.value, "elts", ()) if isinstance(call, ast.Call))  # type: ignore[attr-defined]


def _read_row(call: ast.Call) -> BaseKernel:
    values = dict(zip(_FIELDS, map(ast.literal_eval, call.args), strict=False))
    values |= {keyword.arg or "": ast.literal_eval(keyword.value) for keyword in call.keywords}
    return BaseKernel(values["name"], values["contract"], tuple(values.get("devices", _DEVICES)))
