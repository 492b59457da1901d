"""The filter expression."""

import pytest

from mlabench.cases.grid import make_cases
from mlabench.cases.where import keep_where
from mlabench.errors import UsageError

CASES = make_cases({"variant": ("mha", "gqa", "mla"), "form": ("absorbed", "recompute"), "batch": (1, 8, 64)})


@pytest.mark.parametrize(
    ("expression", "count"),
    [
        ("batch == 8", 4),
        ("1 < batch <= 64", 8),
        ("batch * kv_len <= 2**15", 8),
        ("variant in ('mha', 'gqa')", 6),
        ("variant not in ['mha']", 9),
        ("form == 'absorbed'", 3),
        ("form != 'absorbed'", 9),
        ("num_kv_heads >= 8", 6),
        ("not (variant == 'mla' and form == 'recompute')", 9),
        ("kv_cache_bytes < 40e6", 5),
        ("new_tokens > 1", 8),
        ("variant == 'mha' or batch % 8 == 1", 6),
    ],
)
def test_keeps_the_cases_for_which_it_holds(expression: str, count: int) -> None:
    assert len(keep_where(CASES, expression)) == count


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("batchs == 1", "did you mean batch"),
        ("batch ==", "is no expression"),
        ("__import__('os').system('true')", "cannot take"),
        ("batch.real == 1", "cannot take"),
        ("2 ** batch > 1", "cannot take"),
        ("variant < 3", "fails on"),
        ("batch / 0 > 1", "fails on"),
    ],
)
def test_mistakes_are_named(expression: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        keep_where(CASES, expression)
