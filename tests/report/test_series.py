from mlabench.cases.grid import make_cases
from mlabench.records.record import Record
from mlabench.report.series import View, make_views, measured
from mlabench.report.style import STYLES
from mlabench.report.write import slug
from tests.factories import CEILINGS, make_case, make_record, make_run, make_sweep


def only(view_of: tuple[View, ...]) -> View:
    (view,) = view_of
    return view


def names(view: View) -> list[str]:
    return [series.name for series in view.context.series]


def test_series_come_in_the_legends_order() -> None:
    view = only(make_views([make_run(None, make_sweep(batch=(1,), kv_len=(1024, 4096))[::-1])]))
    assert names(view) == ["MHA", "GQA-8", "MQA", "MLA absorbed", "MLA recompute", "MLA expanded"]


def test_every_style_has_its_own_colour_marker_and_line() -> None:
    for looks in zip(*((style.colour, style.marker, style.line) for style in STYLES), strict=True):
        assert len(set(looks)) == len(STYLES)


def test_machines_methods_and_dtypes_are_never_drawn_together() -> None:
    case, other = make_case(kv_len=1024), make_case(kv_len=1024, dtype="float16")
    records = [make_record(case), make_record(case, method="events"), make_record(other)]
    views = make_views([make_run(None, records), make_run(None, records[:1], device_name="Synthetic B200")])
    assert sorted((view.context.device_name, view.context.method, view.context.dtype) for view in views) == [
        ("Synthetic B200", "graph", "bfloat16"),
        ("Synthetic H200", "events", "bfloat16"),
        ("Synthetic H200", "graph", "bfloat16"),
        ("Synthetic H200", "graph", "float16"),
    ]


def test_each_machine_keeps_its_own_ceilings() -> None:
    h200, cpu = make_run(None, make_sweep(batch=(1,))), make_run(None, make_sweep("cpu", batch=(1,)), "cpu")
    found = {view.context.device_name: view.context.ceilings for view in make_views([h200, cpu])}
    assert found == {"Synthetic H200": CEILINGS["cuda"], "Synthetic CPU": CEILINGS["cpu"]}


def test_the_last_run_counts_where_two_measured_the_same_point() -> None:
    case = make_case(kv_len=1024)
    runs = [make_run(None, [make_record(case, latency_us=latency)]) for latency in (10.0, 20.0)]
    assert only(make_views(runs)).frame["latency_us"].tolist() == [20.0]


def test_the_fastest_checked_kernel_stands_for_a_case() -> None:
    case = make_case(kv_len=1024)
    records = [
        make_record(case, "slow", latency_us=30.0),
        make_record(case, "fast", latency_us=10.0),
        make_record(case, "wrong", status="incorrect"),
    ]
    assert measured(only(make_views([make_run(None, records)])).frame)["kernel"].tolist() == ["fast"]


def test_rows_of_another_setting_are_left_out_and_counted() -> None:
    common = [make_record(make_case(kv_len=length)) for length in (1024, 2048, 4096)]
    others = [make_record(make_case(kv_len=1024, q_len=2)), make_record(make_case(kv_len=1024, kv_lora_rank=256))]
    view = only(make_views([make_run(None, [*others, *common])]))
    assert view.frame["kv_len"].tolist() == [1024, 2048, 4096]
    assert view.context.left_out == ("1 records with other than q_len 1", "1 records with other than kv_lora_rank 512")
    assert sorted(view.every["kv_len"]) == [1024, 1024, 1024, 2048, 4096]


def test_a_warm_and_a_cold_cache_are_never_drawn_together() -> None:
    case, other = make_case(kv_len=1024), make_case(kv_len=2048, page_size=16)
    records = [make_record(case), make_record(other), make_record(make_case(kv_len=4096), cache="warm")]
    view = only(make_views([make_run(None, records)]))
    assert view.context.cache == "cold"
    assert sorted(view.every["kv_len"]) == [1024, 2048]


def test_of_many_gqa_group_sizes_two_are_drawn() -> None:
    groups = [make_record(make_case(variant="gqa", num_kv_heads=count, kv_len=1024)) for count in (2, 4, 8, 16)]
    more = make_record(make_case(variant="gqa", num_kv_heads=8, kv_len=2048))
    view = only(make_views([make_run(None, [*groups, more])]))
    assert names(view) == ["GQA-8", "GQA-2"]
    assert view.context.left_out == ("records of GQA-16, GQA-4",)


def test_the_head_count_with_most_variants_is_drawn_and_a_failed_point_does_not_change_it() -> None:
    records: list[Record] = list(make_sweep(batch=(1,), kv_len=(1024, 4096), num_q_heads=(16, 128)))
    records[-1] = make_record(records[-1].case, status="oom")
    context = only(make_views([make_run(None, records)])).context
    assert (context.num_q_heads, context.all_num_q_heads) == (128, (16, 128))
    alone = [make_record(make_case(kv_len=1024, num_q_heads=256))]
    assert only(make_views([make_run(None, [*records, *alone])])).context.num_q_heads == 128


def test_at_most_three_panels_are_drawn_and_the_caption_says_of_how_many() -> None:
    context = only(make_views([make_run(None, make_sweep(batch=(1, 2, 4, 8, 16), kv_len=(1024, 2048)))])).context
    assert (context.x, context.panel, context.panels) == ("kv_len", "batch", (1, 4, 16))
    assert context.captions["panels"] == "Batch sizes drawn: 1, 4, 16 of 1, 2, 4, 8, 16."


def test_with_one_kv_len_the_batch_becomes_the_axis() -> None:
    context = only(make_views([make_run(None, make_sweep(batch=(1, 8), kv_len=(4096,)))])).context
    assert (context.x, context.panel, context.panels) == ("batch", "kv_len", (4096,))


def test_only_failures_still_make_a_view() -> None:
    view = only(make_views([make_run(None, [make_record(make_case(kv_len=1024), status="oom")])]))
    assert names(view) == ["MLA absorbed"]
    assert measured(view.frame).empty


def prefills(*lengths: tuple[int, int]) -> list[Record]:
    return [make_record(make_case(phase="prefill", q_len=q_len, kv_len=kv_len)) for q_len, kv_len in lengths]


def test_phases_are_never_drawn_together() -> None:
    decodes = [make_record(make_case(kv_len=length)) for length in (1024, 2048, 4096)]
    first, second = make_views([make_run(None, [*decodes, *prefills((1024, 1024), (2048, 2048))])])
    assert (first.context.phase, set(first.frame["phase"])) == ("decode", {"decode"})
    assert (second.context.phase, set(second.frame["phase"])) == ("prefill", {"prefill"})
    assert first.title == "Synthetic H200, bfloat16, timing method graph, cold cache"
    assert second.title == f"{first.title}, prefill of whole prompts"
    assert slug(first) != slug(second)


def test_whole_prompts_of_any_length_are_one_line() -> None:
    view = only(make_views([make_run(None, prefills((1024, 1024), (4096, 4096), (1024, 8192), (2048, 2048)))]))
    assert sorted(view.frame["kv_len"]) == [1024, 2048, 4096]
    assert view.context.q_len is None
    assert view.context.setting() == "128 heads, prefill of whole prompts, bfloat16, Synthetic H200"
    assert view.context.left_out == ("1 records of prefill with a cached prefix",)


def test_chunks_of_one_length_are_one_line_the_first_of_a_prompt_too() -> None:
    view = only(make_views([make_run(None, prefills((512, 512), (512, 1024), (512, 4096), (1024, 1024)))]))
    assert sorted(view.frame["kv_len"]) == [512, 1024, 4096]
    assert view.context.setting() == "128 heads, prefill q_len 512, bfloat16, Synthetic H200"
    assert view.context.left_out == ("1 records with other than q_len 512",)


def test_whole_prompts_of_one_length_name_it() -> None:
    records = [make_record(make_case(phase="prefill", kv_len=1024, batch=batch)) for batch in (1, 4, 16)]
    context = only(make_views([make_run(None, records)])).context
    assert (context.x, context.q_len, context.kv_len) == ("batch", 1024, 1024)
    assert context.setting() == "128 heads, prefill q_len 1024, bfloat16, Synthetic H200"


def test_a_sweep_over_the_new_tokens_has_them_as_its_axis() -> None:
    lengths = [(q_len, kv_len) for kv_len in (4096, 16384) for q_len in (64, 512, 4096)]
    view = only(make_views([make_run(None, prefills(*lengths))]))
    context = view.context
    assert (context.x, context.panel, context.q_len, context.kv_len) == ("q_len", "batch", None, 16384)
    assert sorted(view.frame["q_len"]) == [64, 512, 4096]
    assert context.setting() == "128 heads, prefill at kv_len 16k, bfloat16, Synthetic H200"
    assert context.left_out == ("3 records with other than kv_len 16384",)


def test_as_many_values_of_both_lengths_draw_kv_len_at_the_largest_q_len() -> None:
    view = only(make_views([make_run(None, prefills(*((q, kv) for q in (64, 512) for kv in (1024, 4096))))]))
    assert (view.context.x, view.context.q_len) == ("kv_len", 512)
    assert view.context.left_out == ("2 records with other than q_len 512",)


def test_a_few_whole_prompts_do_not_hide_a_sweep_over_the_new_tokens() -> None:
    view = only(
        make_views([make_run(None, prefills((1024, 1024), (2048, 2048), (64, 8192), (128, 8192), (256, 8192)))])
    )
    assert (view.context.x, view.context.kv_len) == ("q_len", 8192)


def test_a_layers_title_and_file_name_its_models() -> None:
    records = [
        make_record(make_cases({"kv_len": (1024,), "scope": ("layer",)}, [model])[0])
        for model in ("deepseek-v3", "kimi-k2", "llama-3.1-405b")
    ]
    layers, other = sorted(make_views([make_run(None, records)]), key=lambda found: len(found.frame), reverse=True)
    assert layers.context.setting() == "128 heads, whole layer of deepseek-v3, bfloat16, Synthetic H200"
    both = "64, 128 heads, whole layer of deepseek-v3 and kimi-k2, bfloat16, Synthetic H200"
    assert layers.context.setting(every_head_count=True) == both
    assert layers.title.endswith("whole layer of deepseek-v3 and kimi-k2")
    assert slug(layers).endswith("-layer-deepseek-v3-kimi-k2")
    assert slug(other).endswith("-layer-llama-3-1-405b")
