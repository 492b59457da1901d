"""`--where`: keep the cases for which an arithmetic expression over their fields holds."""

import ast
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any

from mlabench.cases.axes import AXES
from mlabench.cases.case import Case
from mlabench.errors import UsageError, near_names

DERIVED = ("kv_cache_bytes", "kv_cache_bytes_per_token", "memory_bytes", "bytes_moved", "flops")
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
    try:
        tree = ast.parse(expression.replace("\n", " ").strip(), mode="eval").body
    except SyntaxError as error:
        raise UsageError(f"--where {expression!r} is no expression: {error.msg}") from None
    return tuple(case for case in cases if _evaluate(tree, case))


def _evaluate(node: ast.AST, case: Case) -> Any:
    match node:
        case ast.Constant(value=int() | float() | str() as value):
            return value
        case ast.Name(id=name):
            return _lookup(name, case)
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(_evaluate(item, case) for item in items)
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_evaluate(value, case) for value in values)
        case ast.BoolOp(values=values):
            return any(_evaluate(value, case) for value in values)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _apply(op, _evaluate(operand, case))
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int() as exponent)) if 0 <= exponent <= 64:
            return _evaluate(left, case) ** exponent
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _apply(op, _evaluate(left, case), _evaluate(right, case))
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            values = [_evaluate(value, case) for value in (left, *comparators)]
            return all(_apply(op, *pair) for op, pair in zip(ops, itertools.pairwise(values), strict=True))
    raise UsageError(
        f"--where cannot take {ast.unparse(node)!r}: use names, numbers, quoted words, arithmetic and comparisons"
    )


def _lookup(name: str, case: Case) -> Any:
    if name in DERIVED:
        return getattr(case, name)
    if name not in AXES:
        raise UsageError(f"--where names {name!r}: {near_names(name, (*AXES, *DERIVED))}")
    return case.to_fields().get(name)


def _apply(op: ast.AST, *operands: Any) -> Any:
    if None in operands:
        return type(op) in (ast.NotEq, ast.NotIn)
    try:
        return _OPERATORS[type(op)](*operands)
    except (TypeError, ZeroDivisionError) as error:
        raise UsageError(f"--where fails on {' and '.join(map(repr, operands))}: {error}") from None
