"""Options that commands which choose cases have in common."""

from typing import Annotated

import typer

Models = Annotated[list[str] | None, typer.Option("--model", help="A model preset; see `mlabench list models`.")]

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
