"""Cases of scope `layer`: identity, tensors, and what the parts cost; and that those of the core are what they were."""

import pytest

from mlabench.cases.case import Case
from mlabench.cases.grid import DEFAULT_SHAPE, make_cases
from mlabench.cases.models import load_presets
from mlabench.cases.where import keep_where
from mlabench.errors import UsageError

FORMS = ("absorbed", "premultiplied", "recompute", "expanded")
MODELS = ("deepseek-v3", "kimi-k2", "llama-3.1-70b", "llama-3.1-405b", "qwen2.5-72b")


def layer_of(model: str = "deepseek-v3", **values: int | str) -> Case:
    (case,) = make_cases({"scope": ("layer",), **{name: (value,) for name, value in values.items()}}, [model])
    return case


def test_a_core_has_no_dimensions_of_its_layer_and_keeps_its_identity() -> None:
    core, layer = make_cases({"scope": ("core", "layer")}, ["deepseek-v3"])
    assert (core.scope, core.hidden_size, core.q_lora_rank) == ("core", None, None)
    assert core.case_id == "a380e800a240"
    assert (layer.scope, layer.hidden_size, layer.q_lora_rank) == ("layer", 7168, 1536)
    assert "hidden_size" not in core.to_fields()
    assert layer.core == core
    assert core.core is core
    assert core.models == layer.models == ("deepseek-v3",)


@pytest.mark.parametrize("model", load_presets())
def test_every_model_has_layers_and_fields_build_them_again(model: str) -> None:
    for case in make_cases({"scope": ("layer",), "form": FORMS}, [model]):
        again = Case.from_fields(case.to_fields())
        assert again == case
        assert again.case_id == case.case_id
        assert case.models == (model,)
        assert case.hidden_size == load_presets()[model]["hidden_size"]


def test_every_dimension_is_of_the_identity() -> None:
    base = layer_of()
    others = [layer_of(hidden_size=7169), layer_of(q_lora_rank=1537), layer_of(form="premultiplied"), base.core]
    assert len({case.case_id for case in (base, *others)}) == 5
    assert [case.models for case in others[:2]] == [(), ()]


def test_a_model_without_a_rank_of_its_query_keeps_its_name_only_without_one() -> None:
    assert layer_of("deepseek-v2-lite").q_lora_rank is None
    assert layer_of("deepseek-v2-lite").models == ("deepseek-v2-lite",)
    assert layer_of("deepseek-v2-lite", q_lora_rank=512).models == ()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_a_layer_costs_what_its_core_and_its_parts_cost(form: str, phase: str) -> None:
    case = layer_of(form=form, phase=phase, batch=4, kv_len=1000)
    (core,) = [part for part in case.parts if part.name == "core"]
    assert (core.flops, core.bytes_moved) == (case.core.flops, case.core.bytes_moved)
    assert case.core.parts == ()
    assert case.flops == sum(part.flops for part in case.parts)
    assert case.bytes_moved == sum(part.bytes_moved for part in case.parts)
    assert case.kv_cache_bytes == case.core.kv_cache_bytes
    weights = sum(spec.nbytes for spec in case.specs if spec.role == "weight")
    assert sum(part.weight_bytes for part in case.parts) == weights


def test_what_a_cache_may_spare_is_no_part_of_the_floor() -> None:
    case = layer_of(batch=2, kv_len=128)
    hidden, weights = 2 * 7168 * 2, 374_214_656
    page_ids, lengths = 2 * 2 * 4, 2 * 4
    assert case.unavoidable_bytes == 2 * hidden + weights + case.kv_cache_bytes + page_ids + lengths
    assert case.unavoidable_bytes < case.bytes_moved
    assert case.core.unavoidable_bytes == case.core.bytes_moved


@pytest.mark.parametrize(
    ("values", "weight_bytes"),
    [
        ({"form": "absorbed"}, 374_214_656),
        ({"form": "recompute"}, 374_214_656),
        ({"form": "expanded"}, 374_214_656),
        ({"form": "premultiplied"}, 1_196_298_240),
        ({"model": "llama-3.1-70b"}, 2 * 8192 * 128 * (64 + 2 * 8 + 64)),
    ],
)
def test_weights_of_a_layer(values: dict[str, str], weight_bytes: int) -> None:
    assert sum(part.weight_bytes for part in layer_of(**values).parts) == weight_bytes


def test_a_new_token_does_two_flop_for_each_weight_of_matrices_around_the_core() -> None:
    case = layer_of(batch=3, kv_len=64)
    matrices = 374_214_656 // 2 - 1536 - 512
    assert case.flops - case.core.flops == 3 * 2 * matrices


def test_the_core_expands_by_itself_and_counts_its_weights() -> None:
    names = {form: [part.name for part in layer_of(form=form).parts] for form in FORMS}
    assert names["recompute"] == ["query", "latent", "cache_write", "core", "output"]
    assert names["absorbed"] == ["query", "latent", "cache_write", "query_absorb", "core", "output_up", "output"]
    (core,) = [part for part in layer_of(form="recompute").parts if part.name == "core"]
    assert core.weight_bytes == 2 * 128 * 256 * 512


def test_memory_holds_weights_cache_and_what_is_handed_on() -> None:
    case = layer_of(batch=2, kv_len=128)
    specs = {spec.name: (spec.shape, spec.dtype, spec.role) for spec in case.specs}
    assert specs["hidden"] == ((2, 7168), "bfloat16", "query")
    assert specs["output"] == ((2, 7168), "bfloat16", "output")
    assert specs["q"] == ((2, 1, 128, 576), "bfloat16", "intermediate")
    assert specs["lse"] == ((2, 1, 128), "float32", "intermediate")
    assert specs["unabsorbed_q"] == ((2, 128, 192), "bfloat16", "intermediate")
    assert specs["q_a_proj"] == ((1536, 7168), "bfloat16", "weight")
    assert specs["rope_table"] == ((128, 32, 2), "float32", "table")
    assert case.memory_bytes == sum(spec.nbytes for spec in case.specs) > 374_214_656 + case.kv_cache_allocated_bytes


def test_premultiplied_is_a_layer_around_the_absorbed_core() -> None:
    case = layer_of(form="premultiplied")
    assert case.contract == layer_of(form="absorbed").contract == "mla_absorbed"
    assert case.core == layer_of(form="absorbed").core
    assert case.label == "MLA premultiplied (128 heads) layer of 7168 batch 1 kv_len 4096 bfloat16"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scope": "layer"}, "scope=layer needs the model's hidden_size: add --model"),
        ({"form": "premultiplied"}, "form=premultiplied is one of whole layers: add -a scope=layer"),
        ({"scope": "layers"}, "scope=layers is unknown: did you mean layer"),
        ({"scope": "layer", "hidden_size": 0}, "hidden_size=0 must be a positive"),
        ({"scope": "layer", "hidden_size": 64, "qk_rope_head_dim": 63}, "qk_rope_head_dim=63 is odd"),
        ({"scope": "layer", "hidden_size": 64, "variant": "mqa", "head_dim": 63}, "head_dim=63 is odd"),
    ],
)
def test_layers_that_cannot_be_are_named(values: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Case.from_fields({**DEFAULT_SHAPE, **values})


def test_where_tells_scopes_apart() -> None:
    axes = {"scope": ("core", "layer"), "form": ("absorbed", "premultiplied")}
    where = 'scope == "layer" or form != "premultiplied"'
    cases = make_cases(axes, ["deepseek-v3"], where)
    assert [(case.scope, case.variant.form) for case in cases] == [
        ("core", "absorbed"),
        ("layer", "absorbed"),
        ("layer", "premultiplied"),
    ]
    assert keep_where(cases, "hidden_size > 0") == cases[1:]


@pytest.mark.parametrize("model", MODELS)
def test_layers_of_both_phases_take_the_kernels_of_their_cores(model: str) -> None:
    for phase in ("decode", "prefill"):
        case = layer_of(model, phase=phase)
        assert case.contract == case.core.contract
        assert case.new_tokens == case.core.new_tokens
