"""The trials of algebra: they come out as the papers say, and a fault seeded into one turns its claim's verdict."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mlabench.claims import algebra, conversion, forms
from mlabench.claims.forms import Step, make_step
from mlabench.claims.judge import judge
from mlabench.claims.ledger import load_ledger
from mlabench.claims.matrices import draw, relative_error, turned

CLAIMS = {claim.id: claim for claim in load_ledger()}


def next_head(matrix: np.ndarray) -> np.ndarray:
    return np.roll(matrix, 1, axis=0)


FAULTS: dict[str, Callable[[Step], Step]] = {
    "no RoPE key": lambda step: replace(step, rope_keys=0 * step.rope_keys),
    "another head's W_UK": lambda step: replace(step, key_up=next_head(step.key_up)),
    "another head's W_UV": lambda step: replace(step, value_up=next_head(step.value_up)),
    "a token left out": lambda step: replace(step, latents=step.latents[1:], rope_keys=step.rope_keys[1:]),
}


def test_a_latent_s_rank_and_what_folds() -> None:
    assert algebra.fold_error() < 1e-12
    assert algebra.fold_error_behind_rope() > 0.1
    assert algebra.rank_behind_rope() == algebra.WIDTH / algebra.RANK
    assert algebra.rank_of_keys_and_values() == algebra.rank_of_keys_and_values(rope_key=True) == 1
    assert algebra.rank_of_update() == 1
    assert algebra.rank_beside_frozen_weight() == algebra.WIDTH / algebra.RANK


def test_the_forms_are_one_function() -> None:
    assert max(forms.absorbed_error(), forms.premultiplied_error(), forms.shift_error()) < 1e-12


def test_no_token_takes_all_the_weight() -> None:
    step = make_step()
    one_left_out = replace(step, latents=step.latents[1:], rope_keys=step.rope_keys[1:])
    assert relative_error(forms.expanded(one_left_out), forms.expanded(step)) > 1e-3


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("form", ["absorbed", "premultiplied"])
def test_a_fault_in_a_form_turns_the_verdict(
    fault: Callable[[Step], Step], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(forms, form)
    monkeypatch.setattr(forms, form, lambda step: right(fault(step)))
    assert judge(CLAIMS["v2.6"]).verdict != CLAIMS["v2.6"].expected


def test_a_query_turned_by_another_position_than_the_keys_turns_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    at = forms.make_step
    monkeypatch.setattr(forms, "make_step", lambda first=0: replace(at(first), query_rope=at(0).query_rope))
    assert judge(CLAIMS["v2.7"]).verdict != CLAIMS["v2.7"].expected


def test_rope_keeps_lengths_and_turns_by_distance_alone() -> None:
    (rows,) = draw((5, 6))
    assert np.allclose(np.linalg.norm(turned(rows, 7), axis=1), np.linalg.norm(rows, axis=1))
    near, far = (turned(rows[:1], first) @ turned(rows[1:2], first + 3).T for first in (0, 90))
    assert np.allclose(near, far)
    assert not np.allclose(near, turned(rows[:1]) @ turned(rows[1:2], 4).T)


def test_gqa_is_mla_with_selectors_and_the_same_cache() -> None:
    assert conversion.gqa_as_mla_error() < 1e-12
    assert conversion.gqa_as_mla_cache() == 1
    assert conversion.gqa_as_mla_error_behind_rope() > 0.1


@pytest.mark.parametrize("matrix", ["key_up", "value_up"])
def test_a_selector_of_another_group_turns_the_verdict(matrix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = conversion.absorbed

    def of_the_next_head(step: Step) -> np.ndarray:
        selectors = {"key_up": step.key_up, "value_up": step.value_up}
        return right(replace(step, **{matrix: next_head(selectors[matrix])}))

    monkeypatch.setattr(conversion, "absorbed", of_the_next_head)
    assert conversion.gqa_as_mla_error() > 1e-3
    error = next(one for one in judge(CLAIMS["transmla.2"]).tested if one.reading.name == "error")
    assert not error.holds


@pytest.mark.parametrize("fall", [1.0, 0.9])
def test_a_truncation_loses_the_tail(fall: float) -> None:
    shares = [rank / conversion.SPECTRUM for rank in (4, 14, 28, conversion.SPECTRUM)]
    errors = [conversion.truncation_error(share, fall) for share in shares]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-12
    assert conversion.truncation_surprise(fall) < 1e-12
    if fall == 1.0:
        assert errors[:3] == pytest.approx([(1 - share) ** 0.5 for share in shares[:3]])


def test_keeping_the_wrong_singular_values_turns_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, projection, up, down = conversion._factors(0.9)
    monkeypatch.setattr(conversion, "_factors", lambda _: (tokens, projection, up[:, ::-1], down[::-1]))
    assert conversion.truncation_surprise(0.9) > 0.1
    assert judge(CLAIMS["transmla.3"]).verdict != CLAIMS["transmla.3"].expected
