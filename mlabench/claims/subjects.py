"""What a claim is about, by a few words: a model preset, or the same model with another attention."""

from dataclasses import dataclass, replace
from functools import cache

from mlabench.cases.case import Case
from mlabench.cases.grid import DEFAULT_SHAPE
from mlabench.cases.mla import FORMS, Mla
from mlabench.predict.alternatives import alternatives
from mlabench.predict.presets import Model, choose_models


@dataclass(frozen=True, slots=True)
class Subject:
    """A model and one decode step of attention in it, over one cached token; its core, and its whole layer."""

    model: Model
    case: Case

    @property
    def layers(self) -> int:
        """Layers with a cache."""
        assert self.model.num_attention_layers is not None
        return self.model.num_attention_layers

    @property
    def layer_case(self) -> Case:
        """The same step with the projections around it."""
        sizes = {**DEFAULT_SHAPE, **self.model.shape, **self.case.to_fields(), "scope": "layer"}
        return Case.from_fields(sizes)


@cache
def subject(words: str) -> Subject:
    """`deepseek-v3`, or with another variant or form as in `deepseek-v3 mha`, `deepseek-v3 expanded`.

    GQA has 8 KV heads unless it is the model's own. Raises `UsageError` for an unknown model, `KeyError` for a variant.
    """
    name, _, other = words.partition(" ")
    model = choose_models([name])[0]
    case = Case.from_fields({**DEFAULT_SHAPE, **model.shape, "kv_len": 1})
    if other in FORMS:
        assert isinstance(case.variant, Mla)
        return Subject(model, replace(case, variant=replace(case.variant, form=other)))
    if other:
        case = replace(case, variant=alternatives(case.variant, "decode")[other])
    return Subject(model, case)


@cache
def layer_subject(words: str) -> Case:
    """The layer of a subject, of which the premultiplied form has no core of its own."""
    name, _, other = words.partition(" ")
    if other != "premultiplied":
        return subject(words).layer_case
    model = choose_models([name])[0]
    return Case.from_fields({**DEFAULT_SHAPE, **model.shape, "kv_len": 1, "form": other, "scope": "layer"})
