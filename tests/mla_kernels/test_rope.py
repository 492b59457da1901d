"""Rotary embedding: its properties, and why MLA keeps it apart from the columns that are absorbed."""

import pytest
import torch

from mla_kernels.rope import inverse_frequencies, rope_table, rotate
from tests.mla_kernels import layers

TOKENS, HEADS, DIM = 5, 3, 8
POSITIONS = torch.tensor([0, 1, 7, 100, 199])
PAIRINGS = pytest.mark.parametrize("interleaved", [True, False], ids=["interleaved", "half-split"])


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def table(dtype=torch.complex128, theta=10_000.0):
    return rope_table(layers.MAX_POSITIONS, DIM, theta, dtype)


def close(got, want, limit=1e-12):
    return float((got.double() - want.double()).abs().max()) <= limit


@PAIRINGS
@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
def test_it_is_the_formula(interleaved, theta):
    x = normal(TOKENS, HEADS, DIM)
    got = rotate(x, POSITIONS, table(theta=theta), interleaved)
    assert close(got, layers.plain_rotate(x, POSITIONS.tolist(), interleaved, theta))


def test_frequencies_are_float64_and_go_down_from_one():
    frequencies = inverse_frequencies(64, 500_000.0)
    assert frequencies.dtype == torch.float64
    assert frequencies[0] == 1
    assert float(frequencies[-1]) == pytest.approx(500_000.0 ** (-62 / 64), rel=1e-15)
    assert bool((frequencies.diff() < 0).all())


def test_far_positions_keep_their_angle():
    last = 163_839
    angle = last * inverse_frequencies(64)
    error = (rope_table(last + 1, 64)[last] - torch.polar(torch.ones_like(angle), angle)).abs().max()
    assert float(error) < 1e-7


def test_an_odd_dim_is_refused():
    with pytest.raises(ValueError, match="rope_dim 7 is odd"):
        rope_table(4, 7)


@PAIRINGS
def test_scores_depend_on_the_distance_alone(interleaved):
    q, k = normal(TOKENS, HEADS, DIM), normal(TOKENS, HEADS, DIM, seed=1)

    def scores(shift_q, shift_k):
        turned_q = rotate(q, POSITIONS + shift_q, table(), interleaved)
        return torch.einsum("qhd,khd->hqk", turned_q, rotate(k, POSITIONS + shift_k, table(), interleaved))

    assert close(scores(0, 0), scores(1, 1))
    assert close(scores(0, 0), scores(56, 56))
    assert not close(scores(0, 0), scores(1, 0), 0.1)


@PAIRINGS
def test_norms_stay_and_position_0_changes_nothing(interleaved):
    x = normal(TOKENS, HEADS, DIM)
    assert close(rotate(x, POSITIONS, table(), interleaved).norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(rotate(x, torch.zeros_like(POSITIONS), table(), interleaved), x)


def test_pairings_differ_by_the_order_of_columns():
    x = normal(TOKENS, HEADS, DIM)
    order = torch.arange(DIM).view(2, -1).T.flatten()  # half-split columns in interleaved order
    assert close(rotate(x[..., order], POSITIONS, table()), rotate(x, POSITIONS, table(), False)[..., order])


@PAIRINGS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_in_place_and_into_a_view(interleaved, dtype):
    whole = normal(TOKENS, HEADS, DIM + 3, dtype=dtype)
    before, angles = whole.clone(), table(torch.complex128 if dtype == torch.float64 else torch.complex64)
    x = whole[..., 3:]
    apart = rotate(x, POSITIONS, angles, interleaved)
    target = torch.full((TOKENS, HEADS, 2 * DIM), torch.nan, dtype=dtype)
    rotate(x, POSITIONS, angles, interleaved, out=target[..., 1 : DIM + 1])
    assert torch.equal(whole, before)
    rotate(x, POSITIONS, angles, interleaved, out=x)
    assert torch.equal(apart, x)
    assert torch.equal(apart, target[..., 1 : DIM + 1])
    assert torch.equal(whole[..., :3], before[..., :3])
    assert bool(target[..., [0, *range(DIM + 1, 2 * DIM)]].isnan().all())


def test_bfloat16_is_rounded_once():
    x = normal(TOKENS, HEADS, DIM, dtype=torch.bfloat16)
    exact = rotate(x.float(), POSITIONS, table(torch.complex64))
    assert torch.equal(rotate(x, POSITIONS, table(torch.complex64)), exact.bfloat16())


def expanded_and_absorbed(distance: int, rope_on_nope: bool, turn_absorbed: int = 0):
    """Scores of queries `distance` tokens after their keys, `[tokens, heads]`: with expanded keys, and against the
    cached latents with a query that was turned by `turn_absorbed` positions before it was absorbed.
    """
    keys_at, queries_at = torch.arange(TOKENS), torch.arange(TOKENS) + distance
    latent, k_up = normal(TOKENS, 16, seed=1), normal(HEADS, DIM, 16, seed=2)
    q, keys = normal(TOKENS, HEADS, DIM), torch.einsum("tc,hdc->thd", latent, k_up)
    q_rope, k_rope = normal(TOKENS, HEADS, DIM, seed=3), normal(TOKENS, 1, DIM, seed=4)
    decoupled = (rotate(q_rope, queries_at, table()) * rotate(k_rope, keys_at, table())).sum(-1)
    absorbed_q = torch.einsum("thd,hdc->thc", rotate(q, torch.full((TOKENS,), turn_absorbed), table()), k_up)
    if rope_on_nope:
        q, keys = rotate(q, queries_at, table()), rotate(keys, keys_at, table())
    return (q * keys).sum(-1) + decoupled, torch.einsum("thc,tc->th", absorbed_q, latent) + decoupled


@pytest.mark.parametrize("distance", [0, 1, 50])
def test_decoupled_rope_leaves_absorption_exact(distance):
    assert close(*expanded_and_absorbed(distance, rope_on_nope=False))


@pytest.mark.parametrize("distance", [1, 10, 50])
def test_rope_on_the_no_position_columns_breaks_absorption(distance):
    expanded, absorbed = expanded_and_absorbed(distance, rope_on_nope=True)
    assert layers.relative_error(absorbed, expanded) > 0.3
    assert close(*expanded_and_absorbed(0, rope_on_nope=True))  # a query's own token is at no distance
    # what would be exact: an absorbed query of its own for each key
    assert close(*expanded_and_absorbed(distance, rope_on_nope=True, turn_absorbed=distance))
