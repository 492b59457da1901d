"""Options that commands which choose cases have in common."""

from typing import Annotated

import typer

from mlabench.errors import UsageError


def kernel_names() -> list[str]:
    """What completes --kernel: kernels, backends, and the word for all peers."""
    from mlabench.measure.kernels import ALL_PEERS, all_kernels

    return list(dict.fromkeys([name for each in all_kernels() for name in (each.name, each.backend)] + [ALL_PEERS]))


def model_names() -> list[str]:
    """What completes --model: the presets."""
    from mlabench.cases.models import load_presets

    return list(load_presets())


def gpu_names() -> list[str]:
    """What completes --gpu: the data sheets."""
    from mlabench.machine.datasheet import load_gpus

    return list(load_gpus())


JsonPath = Annotated[
    str | None,
    typer.Option(
        "--json", metavar="[FILE]", help="Write everything as JSON: to a file, or without one to standard output."
    ),
]

Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show no progress; results, warnings and errors are still told.")
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; docs/json.md says what stands in it.")]

Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="A model preset; see `mlabench list models`.", autocompletion=model_names),
]

Kernels = Annotated[
    list[str] | None,
    typer.Option(
        "--kernel",
        "-k",
        help="A kernel or backend, or peers: those of other packages; see `mlabench list kernels`.",
        autocompletion=kernel_names,
    ),
]

Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.", show_default="auto")]

Dtype = Annotated[
    str | None, typer.Option(help="Short for -a dtype=...: bfloat16, float16 or float32.", show_default="bfloat16")
]

Cache = Annotated[
    str | None,
    typer.Option(
        help="Last-level cache at the start of a call: cold, or warm from the call before.", show_default="auto"
    ),
]

CacheFormat = Annotated[
    list[str] | None,
    typer.Option(
        help="What holds a cached token, queries staying in the dtype: bfloat16, float16, float8 (a scale a tensor), "
        "fp8_656 (a latent in float8 with its scales, RoPE key in bfloat16), or model: as it is commonly served.",
        show_default="the dtype",
    ),
]

Where = Annotated[str | None, typer.Option(help="Keep cases for which this holds, as in 'batch * kv_len <= 2**20'.")]

TimeoutS = Annotated[float | None, typer.Option(help="Give one point up after this many seconds.", show_default="600")]


def kind_of(kind: str, as_json: bool) -> str:
    """The format that --format and --json name together. Raises `UsageError` where they differ."""
    if not as_json:
        return kind
    if kind not in ("table", "json"):
        raise UsageError(f"--json and --format {kind} name two formats: take one")
    return "json"
