"""The layers of a model, and the bytes of a request in all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlabench.errors import UsageError
from mlabench.predict.stacks import Indexer, Stack, stack_of


@st.composite
def stacks(draw: st.DrawFn) -> Stack:
    windows = draw(st.integers(0, 50))
    indexer = draw(st.none() | st.builds(Indexer, st.integers(1, 64), st.integers(1, 256), st.integers(1, 4096)))
    window = draw(st.integers(1, 5000)) if windows else None
    return Stack(draw(st.integers(1, 50)), windows, window, draw(st.integers(0, 9)), indexer)


@given(stacks(), st.integers(1, 10**4), st.integers(0, 10**4))
def test_a_token_more_adds_what_every_layer_still_takes(stack: Stack, per_token: int, kv_len: int) -> None:
    added = stack.bytes_of_request(per_token, kv_len + 1) - stack.bytes_of_request(per_token, kv_len)
    inside = stack.window is not None and kv_len < stack.window
    assert added == stack.bytes_of_next_token(per_token) + (stack.window_layers * per_token if inside else 0)


@given(stacks(), st.integers(1, 10**5))
def test_shared_caches_cost_no_bytes_and_are_attended(stack: Stack, kv_len: int) -> None:
    alone = Stack(stack.full_layers, stack.window_layers, stack.window, 0, stack.indexer)
    assert stack.bytes_of_request(7, kv_len) == alone.bytes_of_request(7, kv_len)
    layers = sum(layers for layers, _ in stack.attending(kv_len))
    assert layers == stack.full_layers + stack.window_layers + stack.shared_layers


def test_layers_that_skip_or_share_a_cache() -> None:
    # Of 40 layers 10 attend with a cache of their own, 4 of them to the last 8 tokens, and 5 more read another's.
    preset = {"num_layers": 40, "num_attention_layers": 10, "sliding_window": 8, "num_sliding_window_layers": 4}
    stack = stack_of({**preset, "num_shared_cache_layers": 5})
    assert stack.bytes_of_request(2, 100) == (6 * 100 + 4 * 8) * 2
    assert stack.attending(100) == ((11, 100), (4, 8))


@pytest.mark.parametrize(
    ("preset", "complaint"),
    [
        ({"sliding_window": 8}, "go together"),
        ({"num_sliding_window_layers": 1}, "go together"),
        ({"sliding_window": 8, "num_sliding_window_layers": 3}, "at most 2"),
        ({"index_topk": 2048}, "index_topk alone"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(preset: dict[str, int], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        stack_of({"num_layers": 2, **preset})
