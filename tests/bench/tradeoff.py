"""The page on the trade-off, from the committed runs: `python -m tests.bench.tradeoff > docs/tradeoff.md`."""

import json
import textwrap
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from mlabench.machine.ceilings import ridge_flops_per_byte
from mlabench.predict.crossovers import find_crossovers
from mlabench.predict.hardware import choose_gpus
from mlabench.predict.presets import choose_models
from mlabench.predict.rows import make_points
from mlabench.records.frame import rows
from mlabench.records.store import Run, load_run
from mlabench.report.crossovers import crossings
from mlabench.units import (
    NOT_MEASURED,
    format_bytes,
    format_count,
    format_exact,
    format_flop_rate,
    format_latency,
    format_percent,
    format_ratio,
    format_tokens,
)
from tests.bench.markdown import table

BASELINES = Path("results") / "baselines" / "nvidia-h200"
TEMPLATE = Path(__file__).with_suffix(".md.j2")

BATCHES = (1, 8, 32, 128)
HEADS = (16, 64, 128)
VARIANTS = {"mla": "MLA", "gqa": "GQA-8", "mqa": "MQA", "mha": "MHA"}
LARGEST = {"batch": 128, "kv_len": 8192}
SINGLE = {"batch": 1, "kv_len": 8192}

Row = dict[str, Any]


@cache
def run(name: str) -> Run:
    """One of the committed runs."""
    return load_run(Path(__file__).parents[2] / BASELINES / name)


@cache
def measured(name: str) -> tuple[Row, ...]:
    """The rows of one of them."""
    return tuple(rows(run(name)))


def where(name: str, **wanted: Any) -> tuple[Row, ...]:
    """The rows of a run whose columns hold these values."""
    return tuple(row for row in measured(name) if all(row[column] == value for column, value in wanted.items()))


def one(name: str, **wanted: Any) -> Row:
    """The only such row."""
    (row,) = where(name, **wanted)
    return row


def core(variant: str, num_q_heads: int, name: str = "decode", **at: int) -> Row:
    """A core's row; of MLA the absorbed form's."""
    return one(name, variant=variant, form="absorbed" if variant == "mla" else None, num_q_heads=num_q_heads, **at)


def over(rival: Row, row: Row, column: str = "latency_us") -> float:
    """The rival's cost over the row's."""
    return float(rival[column]) / float(row[column])


def core_ratios(rival: str, num_q_heads: int, batch: int, column: str = "latency_us") -> list[tuple[int, float]]:
    """Each kv_len that MLA and the rival both have, with the rival's cost over MLA's."""
    mla, other = (
        {row["kv_len"]: row for row in where("decode", variant=variant, num_q_heads=num_q_heads, batch=batch)
         if row["form"] in (None, "absorbed")}
        for variant in ("mla", rival)
    )  # fmt: skip
    return [(length, over(other[length], mla[length], column)) for length in sorted(set(mla) & set(other))]


def prefix_ratios(batch: int, kv_len: int, column: str = "latency_us") -> list[tuple[int, float]]:
    """Each count of new tokens, with the expanding layer's cost over the absorbed one's."""
    forms = {form: {row["q_len"]: row for row in where("prefix", form=form, batch=batch, kv_len=kv_len)}
             for form in ("absorbed", "recompute")}  # fmt: skip
    return [(new, over(forms["recompute"][new], row, column)) for new, row in sorted(forms["absorbed"].items())]


def part_times(row: Row) -> dict[str, float]:
    """The parts of a layer's row with their times alone in us."""
    return {part["name"]: part["latency_us"] for part in json.loads(row["parts"])}


def layer_weights(row: Row) -> int:
    """Bytes of the weights around a layer's core."""
    return sum(part["weight_bytes"] for part in json.loads(row["parts"]))


def layer(model: str, form: str | None = None, **at: int) -> Row:
    """The row of a model's layer."""
    (row,) = [row for row in where("layer", form=form, **at) if model in row["models"].split(", ")]
    return row


LAYERS = {
    "deepseek-v3": ("DeepSeek-V3, MLA", "absorbed"),
    "kimi-k2": ("Kimi-K2, MLA", "absorbed"),
    "llama-3.1-405b": ("Llama 3.1 405B, GQA-8", None),
    "llama-3.1-70b": ("Llama 3.1 70B and Qwen2.5 72B, GQA-8", None),
}
"""Models as the page names them, and the form of their attention."""


def _short() -> dict[str, str]:
    few, many = core("mla", 16, **LARGEST), core("mla", 128, **LARGEST)
    mqa = [ratio for heads in HEADS for batch in BATCHES for _, ratio in core_ratios("mqa", heads, batch)]
    prefix = [
        length for batch in (1, 8) for kv_len in (8192, 32768) for length in crossings(prefix_ratios(batch, kv_len))
    ]
    sustained = over(core("gqa", 128, "decode-sustained", **LARGEST), core("mla", 128, "decode-sustained", **LARGEST))
    shares = [_core_share(layer("deepseek-v3", "absorbed", **at)) for at in (SINGLE, LARGEST)]
    return {
        "few_ratio": f"{over(core('gqa', 16, **LARGEST), few):.2f}x",
        "bytes_ratio": f"{over(core('gqa', 16, **LARGEST), few, 'kv_cache_bytes'):.2f}x",
        "many_ratio": f"{over(core('gqa', 128, **LARGEST), many):.2f}x",
        "sustained_ratio": f"{sustained:.2f}x",
        "crossing_few": _lengths(core_ratios("gqa", 16, 1)),
        "crossing_many": _lengths(core_ratios("gqa", 128, 1)),
        "mqa_least": f"{min(mqa):.2f}",
        "mqa_most": f"{max(mqa):.2f}",
        "prefix_least": f"{min(prefix):.0f}",
        "prefix_most": f"{max(prefix):.0f}",
        "core_share_one": format_percent(shares[0]),
        "core_share_many": format_percent(shares[1]),
    }


def _core_share(row: Row) -> float:
    times = part_times(row)
    return times["core"] / sum(times.values())


def _lengths(points: Sequence[tuple[int, float]]) -> str:
    return ", ".join(format_exact(round(length / 100) * 100) for length in crossings(points)) or NOT_MEASURED


def _crossings() -> str:
    def line(heads: int, batch: int) -> list[str]:
        points, floors = (core_ratios("gqa", heads, batch, column) for column in ("latency_us", "floor_us"))
        return [str(heads), str(batch), _lengths(points), _lengths(floors),
                *(f"{format_ratio(ratio)} at {format_tokens(length)}" for length, ratio in (points[0], points[-1])),
                format_ratio(floors[-1][1])]  # fmt: skip

    headings = ["heads", "batch", "level at kv_len", "by the ceilings", "MLA over GQA-8, shortest", "longest",
                "longest by the ceilings"]  # fmt: skip
    return table(headings, [line(heads, batch) for heads in HEADS for batch in BATCHES])


def _small() -> dict[str, str]:
    mla, gqa = core("mla", 128, **SINGLE), core("gqa", 128, **SINGLE)
    empty = [record.timing.overhead_us for record in run("decode").records if record.timing is not None]
    without = [batch for batch in BATCHES if not any(crossings(core_ratios("gqa", heads, batch)) for heads in HEADS)]
    return {
        "floor_mla": format_latency(mla["floor_us"]),
        "floor_gqa": format_latency(gqa["floor_us"]),
        "mla": format_latency(mla["latency_us"]),
        "gqa": format_latency(gqa["latency_us"]),
        "empty": format_latency(sorted(empty)[len(empty) // 2]),
        "no_crossing": str(min(without)),
    }


def _costs() -> str:
    def line(variant: str, name: str, heads: int) -> list[str]:
        row = core(variant, heads, **LARGEST)
        held = where("decode-sustained", variant=variant, num_q_heads=heads, **LARGEST)
        kept = [format_latency(held[0]["latency_us"]), f"{1e3 * held[0]['energy_j_per_token']:.3g} mJ"] if held else [
            NOT_MEASURED] * 2  # fmt: skip
        per_token = (row["bytes_moved"] / row["new_tokens"], row["flops"] / row["new_tokens"])
        return [name, str(heads), format_bytes(per_token[0]), format_count(per_token[1], "FLOP"),
                format_latency(row["latency_us"]), *kept]  # fmt: skip

    headings = ["attention", "heads", "bytes a token", "FLOP a token", "call, burst", "call, sustained",
                "energy a token, sustained"]  # fmt: skip
    return table(headings, [line(*variant, heads) for heads in (16, 128) for variant in VARIANTS.items()])


def _sustained() -> str:
    def line(row: Row) -> list[str]:
        at = {"batch": row["batch"], "kv_len": row["kv_len"]}
        gqa, burst = core("gqa", 128, "decode-sustained", **at), over(core("gqa", 128, **at), core("mla", 128, **at))
        return [str(row["batch"]), format_tokens(row["kv_len"]), format_latency(row["latency_us"]),
                format_latency(gqa["latency_us"]), f"{burst:.2f}x", f"{over(gqa, row):.2f}x",
                f"{over(gqa, row, 'energy_j_per_token'):.2f}x", f"{row['sm_clock_mhz']:.0f} MHz"]  # fmt: skip

    headings = ["batch", "kv_len", "MLA", "GQA-8", "MLA's lead, burst", "sustained", "in energy", "clock under MLA"]
    return table(headings, [line(row) for row in where("decode-sustained", variant="mla")])


def _single() -> dict[str, str]:
    """One request of 8k under sustained load: MLA's time and energy over GQA-8's."""
    mla, gqa = (core(variant, 128, "decode-sustained", **SINGLE) for variant in ("mla", "gqa"))
    return {"time": f"{over(mla, gqa):.2f}", "energy": f"{over(mla, gqa, 'energy_j_per_token'):.2f}"}


def _layers() -> str:
    def line(batch: int, kv_len: int) -> list[str]:
        at = {"batch": batch, "kv_len": kv_len}
        times = [layer(model, form, **at)["latency_us"] for model, (_, form) in LAYERS.items()]
        return [str(batch), format_tokens(kv_len), *(format_latency(us) for us in times)]

    headings = ["batch", "kv_len", *(name for name, _ in LAYERS.values())]
    return table(headings, [line(batch, kv_len) for batch in BATCHES for kv_len in (1024, 8192, 65536, 131072)])


def _layers_sustained() -> str:
    def line(kv_len: int) -> list[str]:
        found = [one("layer-sustained", variant=variant, kv_len=kv_len) for variant in ("mla", "gqa")]
        energies = [f"{1e3 * row['energy_j_per_token']:.3g} mJ" for row in found]
        times = [format_latency(row["latency_us"]) for row in found]
        return [format_tokens(kv_len), *(cell for pair in zip(times, energies, strict=True) for cell in pair)]

    names = ("DeepSeek-V3", "Llama 3.1 405B")
    headings = ["kv_len", *(cell for name in names for cell in (name, f"{name}, a token"))]
    return table(headings, [line(kv_len) for kv_len in (1024, 8192)])


def _weights() -> str:
    return ", ".join(
        f"{format_bytes(layer_weights(layer(model, form, **SINGLE)))} in {name.split(',')[0]}"
        for model, (name, form) in LAYERS.items()
    )


def _overtakes() -> str:
    """Where a layer of DeepSeek-V3 overtakes one of Llama 3.1 70B, or that it is ahead from the shortest on."""

    def level(batch: int) -> str:
        lengths = [row["kv_len"] for row in where("layer", batch=batch, form="absorbed") if row["num_q_heads"] == 128]
        points = [
            (length, over(layer("llama-3.1-70b", batch=batch, kv_len=length),
                          layer("deepseek-v3", "absorbed", batch=batch, kv_len=length)))
            for length in sorted(lengths)
        ]  # fmt: skip
        if points[0][1] > 1:
            return f"at every length at batch {batch}"
        return f"from {_lengths(points)} tokens on at batch {batch}"

    return "DeepSeek-V3's layer overtakes Llama 3.1 70B's " + ", ".join(level(batch) for batch in BATCHES)


def _parts() -> str:
    columns = {
        f"{name}, batch {at['batch']}": part_times(layer(model, form, **at))
        for model, name, form in (
            ("deepseek-v3", "DeepSeek-V3", "absorbed"),
            ("llama-3.1-405b", "Llama 3.1 405B", None),
        )
        for at in (SINGLE, LARGEST)
    }
    names = dict.fromkeys(name for times in columns.values() for name in times)
    lines = [[f"`{name}`", *(format_latency(times.get(name)) for times in columns.values())] for name in names]
    return table(["part, kv_len 8k", *columns], lines)


def _absorption(at: dict[str, int]) -> str:
    times = part_times(layer("deepseek-v3", "absorbed", **at))
    return format_percent((times["query_absorb"] + times["output_up"]) / sum(times.values()))


def _premultiplied() -> dict[str, str]:
    ratios = [
        over(row, layer(row["models"], "absorbed", batch=row["batch"], kv_len=row["kv_len"]))
        for row in where("layer", form="premultiplied")
    ]
    weights = [layer_weights(layer("deepseek-v3", form, **SINGLE)) for form in ("premultiplied", "absorbed")]
    return {
        "least": f"{min(ratios):.2f}",
        "most": f"{max(ratios):.2f} times",
        "weights": format_bytes(weights[0]),
        "absorbed_weights": format_bytes(weights[1]),
    }


def _prefix() -> str:
    def line(batch: int, kv_len: int) -> list[str]:
        points, floors = (prefix_ratios(batch, kv_len, column) for column in ("latency_us", "floor_us"))
        few, many = points[0], points[-1]
        return [str(batch), format_tokens(kv_len), *(f"{length:.0f}" for length in crossings(points)),
                *(f"{length:.0f}" for length in crossings(floors)),
                f"{few[1]:.2f}x at {few[0]}", f"{1 / many[1]:.2f}x at {format_tokens(many[0])}"]  # fmt: skip

    headings = ["requests", "prefix and new tokens", "level at new tokens", "by the ceilings", "absorbed is faster by",
                "recompute is faster by"]  # fmt: skip
    return table(headings, [line(batch, kv_len) for batch in (1, 8) for kv_len in (8192, 32768)])


def _prefix_flops() -> str:
    found = find_crossovers(make_points(choose_models(["deepseek-v3"]), {}), choose_gpus(["h200-sxm"]))
    (level,) = [
        crossover.at for crossover in found if (crossover.crossover, crossover.kv_len) == ("absorbed_new_tokens", None)
    ]
    return f"{level:.0f}"


def _rates() -> dict[str, str]:
    def span(form: str) -> str:
        cores = [
            next(part for part in json.loads(row["parts"]) if part["name"] == "core")
            for row in where("prefix", form=form, q_len=256)
        ]
        each = sorted(part["flops"] / part["latency_us"] * 1e6 for part in cores)
        return f"{format_flop_rate(each[0]).partition(' ')[0]} to {format_flop_rate(each[-1])}"

    return {form: span(form) for form in ("absorbed", "recompute")}


def _work() -> dict[str, str]:
    mla, gqa = core("mla", 128, **LARGEST), core("gqa", 128, **LARGEST)
    ceilings = run("decode").manifest.ceilings
    assert ceilings is not None
    return {
        "bytes": f"{over(gqa, mla, 'bytes_moved'):.2f} times",
        "flops": f"{over(mla, gqa, 'flops'):.2f} times",
        "intensity": f"{mla['arithmetic_intensity_flops_per_byte']:.0f}",
        "ridge": f"{ridge_flops_per_byte(ceilings, 'bfloat16'):.0f}",
    }


def page() -> str:
    """The page as Markdown."""
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        cache={name: format_exact(core(name, 128, **LARGEST)["kv_cache_bytes_per_token"]) for name in VARIANTS},
        short=_short(), crossings=_crossings(), small=_small(), costs=_costs(), work=_work(), sustained=_sustained(),
        layers=_layers(), layers_sustained=_layers_sustained(), weights=_weights(),
        overtakes=_overtakes(), parts=_parts(), premultiplied=_premultiplied(),
        absorption={"one": _absorption(SINGLE), "many": _absorption(LARGEST)},
        single=_single(), prefix=_prefix(), prefix_flops=_prefix_flops(), rates=_rates(),
    )  # fmt: skip
    return "\n\n".join(map(_wrapped, text.rstrip().split("\n\n"))) + "\n"


def _wrapped(paragraph: str) -> str:
    """Prose in lines of 120 characters; tables, headings and pictures as they are."""
    if paragraph.startswith(("|", "#", "!")):
        return paragraph
    fill = partial(textwrap.fill, width=120, break_long_words=False, break_on_hyphens=False)
    if not paragraph.startswith("- "):
        return fill(paragraph)
    return "\n".join(
        fill(f"- {' '.join(point.split())}", subsequent_indent="  ") for point in paragraph[2:].split("\n- ")
    )


if __name__ == "__main__":
    print(page(), end="")
