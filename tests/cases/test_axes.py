"""The grammar of axes."""

import pytest

from mlabench.cases.axes import axis_values, parse_axis
from mlabench.errors import UsageError


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("batch=1,8,32", "batch", (1, 8, 32)),
        ("kv_len[pow2]=10:12:1", "kv_len", (1024, 2048, 4096)),
        ("kv_len[pow2]=10:16:3", "kv_len", (1024, 8192, 65536)),
        ("kv_len[pow2]=10,17", "kv_len", (1024, 131072)),
        ("num_q_heads=16:64:16", "num_q_heads", (16, 32, 48, 64)),
        ("kv_len=512,1k,16K", "kv_len", (512, 1024, 16384)),
        ("batch=1:3", "batch", (1, 2, 3)),
        ("batch=1,2:4,8", "batch", (1, 2, 3, 4, 8)),
        ("batch=8,8,1", "batch", (8, 1)),
        ("variant=mha, mla", "variant", ("mha", "mla")),
        ("dtype=float16", "dtype", ("float16",)),
    ],
)
def test_values(text: str, name: str, values: tuple[object, ...]) -> None:
    assert parse_axis(text) == (name, values)


def test_toml_values_follow_the_same_grammar() -> None:
    assert axis_values("batch", [1, 8]) == ("batch", (1, 8))
    assert axis_values("batch", 4) == ("batch", (4,))
    assert axis_values("kv_len[pow2]", "10:12") == ("kv_len", (1024, 2048, 4096))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batches=1", "unknown axis 'batches': did you mean batch"),
        ("batch", "has no values"),
        ("batch=", "not a whole number"),
        ("batch=two", "not a whole number"),
        ("batch=0", "positive"),
        ("batch=-1", "positive"),
        ("batch=8:1", "START <= STOP"),
        ("batch=1:8:0", "STEP >= 1"),
        ("kv_len[pow3]=1", "only scale is pow2"),
        ("kv_len[pow2]=99", "between 0 and 40"),
        ("variant=mlaa", "did you mean mla"),
        ("dtype=bf16", "bfloat16"),
        ("form=absorb", "did you mean absorbed"),
    ],
)
def test_mistakes_are_named(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_axis(text)
