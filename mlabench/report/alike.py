"""Which rows of a view lie on comparable lines: one setting, one shape, and either q_len or kv_len held."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

SETTINGS = ("kv_len_dist", "page_size")
"""Fields of a case that are one value within a figure, beside the one that `_held` names."""

SIZES = ("head_dim", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "q_lora_rank")
"""Fields that are one value within a variant's line."""


def of_one_setting(rows: "pandas.DataFrame", left_out: list[str]) -> "pandas.DataFrame":
    """The rows of a phase and scope that share the most frequent setting, with q_len or kv_len held.

    Says how many differ.
    """
    held = _held(rows)
    if held is None:
        return most_common(_whole_prompts(rows, left_out), SETTINGS, left_out)
    return most_common(rows, (held, *SETTINGS), left_out)


def most_common(rows: "pandas.DataFrame", columns: Sequence[str], left_out: list[str]) -> "pandas.DataFrame":
    """The rows that share the most frequent values of the columns, of equals the largest; says how many differ."""
    groups = [part for _, part in rows.groupby(list(columns), dropna=False, sort=True)]
    kept = max(reversed(groups), key=_weight)
    varied = [name for name in columns if rows[name].nunique(dropna=False) > 1]
    if varied:
        values = ", ".join(f"{name} {kept[name].iloc[0]}" for name in varied)
        left_out.append(f"{len(rows) - len(kept)} records with other than {values}")
    return kept


def _held(rows: "pandas.DataFrame") -> str | None:
    """Which of q_len and kv_len a line holds, so that most is drawn; None for the prefill of whole prompts."""
    if rows["phase"].iloc[0] == "decode":
        return "q_len"
    drawn = {
        "q_len": max(_weight(part) for _, part in rows.groupby("q_len")),
        None: _weight(rows[rows["q_len"] == rows["kv_len"]]),
        "kv_len": max(_weight(part) for _, part in rows.groupby("kv_len")),
    }
    return max(drawn, key=lambda held: drawn[held])


def _whole_prompts(rows: "pandas.DataFrame", left_out: list[str]) -> "pandas.DataFrame":
    """The rows of prefill without a prefix; says how many differ."""
    whole = rows[rows["q_len"] == rows["kv_len"]]
    if len(whole) < len(rows):
        left_out.append(f"{len(rows) - len(whole)} records of prefill with a cached prefix")
    return whole


def _weight(rows: "pandas.DataFrame") -> tuple[int, int]:
    """How many of the rows were measured, and how many there are."""
    return int((rows["status"] == "ok").sum()), len(rows)
