"""The grammar of axes: `batch=1,8,32`, `kv_len[pow2]=10:17:1`, `num_q_heads=16:128:16`."""

import re
from collections.abc import Iterable, Sequence

from mlabench.cases.case import ALLOWED
from mlabench.errors import UsageError, near_names

INTEGER_AXES = (
    "batch",
    "q_len",
    "kv_len",
    "page_size",
    "num_q_heads",
    "num_kv_heads",
    "head_dim",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "hidden_size",
    "q_lora_rank",
)
"""Axes whose values are positive whole numbers."""

AXES = (*ALLOWED, *INTEGER_AXES)
"""Every axis of a sweep."""

MAX_AXIS_VALUES = {"batch": 1 << 16}
"""The largest value of an axis, where it is not `MAX_AXIS_VALUE`."""

MAX_AXIS_VALUE = 1 << 40

MAX_RANGE_LENGTH = 100_000

Value = int | str

_AXIS = re.compile(r"^(?P<name>\w+)(\[(?P<scale>\w+)\])?$")
_RANGE = re.compile(r"^(-?\d+):(-?\d+)(:(-?\d+))?$")


def parse_axis(text: str) -> tuple[str, tuple[Value, ...]]:
    """`NAME=VALUES` or `NAME[pow2]=VALUES` to the axis's name and values. Raises `UsageError`."""
    name, separator, values = text.partition("=")
    if not separator:
        raise UsageError(f"axis {text!r} has no values: write NAME=VALUES, as in batch=1,8,32")
    return axis_values(name.strip(), values)


def axis_values(key: str, values: Value | Sequence[Value]) -> tuple[str, tuple[Value, ...]]:
    """The axis that `key` (a name, perhaps with `[pow2]`) and its values stand for. Raises `UsageError`.

    Values are a list, or text as on the command line: `1,8,32`, or an inclusive range `START:STOP[:STEP]`.
    Under `pow2` they are exponents of two.
    """
    match = _AXIS.match(key)
    name = match["name"] if match else key
    if match is None or name not in AXES:
        raise UsageError(f"unknown axis {name!r}: {near_names(name, AXES)}")
    if match["scale"] not in (None, "pow2"):
        raise UsageError(f"axis {key!r}: the only scale is pow2, as in {name}[pow2]=10:17:1")
    words = values.split(",") if isinstance(values, str) else [values] if isinstance(values, int) else list(values)
    expanded: list[Value] = []
    for word in words:
        expanded += _expand(name, str(word).strip())
    if match["scale"] == "pow2":
        expanded = [_power_of_two(name, exponent) for exponent in expanded]
    for value in expanded:
        _check(name, value)
    return name, tuple(dict.fromkeys(expanded))


def merge_axes(axes: Iterable[tuple[str, tuple[Value, ...]]]) -> dict[str, tuple[Value, ...]]:
    """The axes by name. Raises `UsageError` for one that is given twice."""
    merged: dict[str, tuple[Value, ...]] = {}
    for name, values in axes:
        if name in merged:
            raise UsageError(f"axis {name} is given twice: write its values in one list, as in batch=1,8,32")
        merged[name] = values
    return merged


def _expand(name: str, word: str) -> list[Value]:
    if name not in INTEGER_AXES:
        return [word]
    if (match := _RANGE.match(word)) is not None:
        start, stop, step = int(match[1]), int(match[2]), int(match[4] or 1)
        if step < 1 or stop < start:
            raise UsageError(f"{name}={word}: a range is START:STOP:STEP with START <= STOP and STEP >= 1")
        if (stop - start) // step >= MAX_RANGE_LENGTH:
            raise UsageError(f"{name}={word} has over {MAX_RANGE_LENGTH} values: take a larger STEP")
        return list(range(start, stop + 1, step))
    try:
        # as tables write lengths: 16k is 16384
        return [int(word[:-1]) * 1024 if word[-1:] in ("k", "K") else int(word)]
    except ValueError:
        raise UsageError(f"{name}={word!r} is not a whole number, a list 1,8,32 or a range 1:128:8") from None


def _power_of_two(name: str, exponent: Value) -> int:
    if not isinstance(exponent, int) or not 0 <= exponent <= 40:
        raise UsageError(f"{name}[pow2]={exponent}: an exponent of two lies between 0 and 40")
    return 1 << exponent


def _check(name: str, value: Value) -> None:
    if isinstance(value, int):
        most = MAX_AXIS_VALUES.get(name, MAX_AXIS_VALUE)
        if not 1 <= value <= most:
            raise UsageError(f"{name}={value} must be a positive whole number of at most {most}")
    elif value not in ALLOWED[name]:
        raise UsageError(f"{name}={value} is unknown: {near_names(value, ALLOWED[name])}")
