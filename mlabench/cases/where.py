"""`--where`: keep the cases for which an arithmetic expression over their fields holds.

It is asked about cases, and about values that make none, which it may leave out before they are an error.
"""

import ast
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from mlabench.cases.axes import AXES
from mlabench.cases.case import Case
from mlabench.errors import UsageError, near_names

DERIVED = ("new_tokens", "kv_cache_bytes", "kv_cache_bytes_per_token", "memory_bytes", "bytes_moved", "flops")
"""Computed quantities that an expression may name beside the axes."""

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
    ast.Not: operator.not_,
    ast.USub: operator.neg,
}


def keep_where(cases: Sequence[Case], expression: str) -> tuple[Case, ...]:
    """The cases for which `expression` is true, as in `batch * kv_len <= 2**20 and variant != "mha"`.

    A size that a variant does not have is None, and a comparison with it is false. Raises `UsageError`.
    """
    tree = _parse(expression)
    return tuple(case for case in cases if _evaluate(tree, partial(_lookup, case)))


def leaves_out(values: Mapping[str, Any], expression: str) -> bool:
    """Whether a part of `expression` that `and` joins is false of values that make no case.

    A part that names a derived quantity tells nothing, for there is none. Raises `UsageError`.
    """
    tree = _parse(expression)
    parts = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
    plain = [part for part in parts if not _names(part) & set(DERIVED)]
    return not all(_evaluate(part, partial(_lookup_value, values)) for part in plain)


def _parse(expression: str) -> ast.expr:
    try:
        return ast.parse(expression.replace("\n", " ").strip(), mode="eval").body
    except SyntaxError as error:
        raise UsageError(f"--where {expression!r} is no expression: {error.msg}") from None


def _names(tree: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _evaluate(node: ast.AST, lookup: Callable[[str], Any]) -> Any:
    match node:
        case ast.Constant(value=int() | float() | str() as value):
            return value
        case ast.Name(id=name):
            return lookup(name)
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(_evaluate(item, lookup) for item in items)
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_evaluate(value, lookup) for value in values)
        case ast.BoolOp(values=values):
            return any(_evaluate(value, lookup) for value in values)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _apply(op, _evaluate(operand, lookup))
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int() as exponent)) if 0 <= exponent <= 64:
            return _evaluate(left, lookup) ** exponent
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _apply(op, _evaluate(left, lookup), _evaluate(right, lookup))
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            values = [_evaluate(value, lookup) for value in (left, *comparators)]
            return all(_apply(op, *pair) for op, pair in zip(ops, itertools.pairwise(values), strict=True))
    raise UsageError(
        f"--where cannot take {ast.unparse(node)!r}: use names, numbers, quoted words, arithmetic and comparisons"
    )


def _lookup(case: Case, name: str) -> Any:
    return getattr(case, name) if name in DERIVED else _lookup_value(case.to_fields(), name)


def _lookup_value(values: Mapping[str, Any], name: str) -> Any:
    if name not in AXES:
        raise UsageError(f"--where names {name!r}: {near_names(name, (*AXES, *DERIVED))}")
    return values.get(name)


def _apply(op: ast.AST, *operands: Any) -> Any:
    if None in operands:
        return type(op) in (ast.NotEq, ast.NotIn)
    try:
        return _OPERATORS[type(op)](*operands)
    except (TypeError, ZeroDivisionError) as error:
        raise UsageError(f"--where fails on {' and '.join(map(repr, operands))}: {error}") from None
