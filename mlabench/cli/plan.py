"""`mlabench plan`: the options; `plan_steps` does the work, and is loaded for it alone."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlabench.cli import options
from mlabench.cli.predict import Verbose


def plan(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="A model preset, all, or ./config.json of a Hugging Face checkpoint.",
            autocompletion=options.model_names,
        ),
    ] = None,
    gpus_count: Annotated[
        list[str] | None, typer.Option("--gpus-count", help="How many GPUs: 8 or 8,16.", show_default="1")
    ] = None,
    gpu: Annotated[
        list[str] | None,
        typer.Option(
            "--gpu",
            help="A GPU, or all; see `mlabench list gpus`.",
            show_default="h200-sxm, or that of RUN",
            autocompletion=options.gpu_names,
        ),
    ] = None,
    tp: Annotated[
        list[str] | None,
        typer.Option("--tp", help="GPUs that share the heads: 1,2,4,8.", show_default="all that --dp leaves"),
    ] = None,
    dp: Annotated[
        list[str] | None,
        typer.Option(
            "--dp",
            help="Replicas of attention, each with requests and a copy of attention's weights of its own; the other "
            "weights are split over all GPUs.",
            show_default="1, or what --tp leaves",
        ),
    ] = None,
    axis: Annotated[
        list[str] | None,
        typer.Option(
            "--axis", "-a", help="NAME=VALUES as in a sweep: kv_len=8192,131072, variant=mla,gqa,mha, or batch=64."
        ),
    ] = None,
    dtype: options.Dtype = None,
    cache_format: options.CacheFormat = None,
    weights_gb: Annotated[
        float | None,
        typer.Option(
            "--weights-gb", help="Bytes of all weights, in 10**9.", show_default="parameters x bytes of --weights-dtype"
        ),
    ] = None,
    weights_dtype: Annotated[
        str | None,
        typer.Option(
            "--weights-dtype",
            help="bfloat16, float16, float32, float8, mxfp4 or int4.",
            show_default="that of the checkpoint",
        ),
    ] = None,
    reserve: Annotated[
        float | None,
        typer.Option(
            "--reserve", help="Share of a GPU's memory kept for activations and the runtime.", show_default="0.1"
        ),
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price", help="US dollars for an hour of one GPU: adds a million tokens' cost.")
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option("--models", help="A TOML file with models of your own, as in models.toml."),
    ] = None,
    gpus: Annotated[
        Path | None, typer.Option("--gpus", help="A TOML file with GPUs of your own, as in gpus.toml.")
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option("--calibrate", metavar="RUN", help="Attention's time as the kernels of a run would take it."),
    ] = None,
    kind: Annotated[
        Literal["table", "json", "csv", "md"],
        typer.Option("--format", "-f", help="How to write the rows: md is the table."),
    ] = "table",
    verbose: Verbose = False,
    as_json: options.AsJson = False,
) -> None:
    """Say what fits on a number of GPUs beside a model's weights, and how fast it decodes there at best.

    A row is a model on GPUs with requests of kv_len tokens: how many tokens and requests fit in the memory that weights
    and reserve leave, how long a single request could be (longest_request), and how long `batch` of them
    (longest_kv_len; may be over the model's own max_context). With --tp every rank holds the whole of MLA's latent;
    with --dp each request is in one replica. Layers with a sliding window hold no more than it, and an indexer's cache
    counts. With -a variant=... the attention is exchanged, the weights are not.

    A step gives each of `batch` requests, over all GPUs, a token; without -a batch=N as many as fit. Its floor is the
    sum of two: attention in all layers (with an indexer: scoring every token, attending its top k), and the weights,
    read once or multiplied with, whichever is longer. Products are taken to run in the dtype, and tokens to draw the
    experts of a mixture evenly: of the weights beside attention's a step then reads 1 - (1 - active/all)**tokens.
    Communication, sampling and all else cost nothing here. --calibrate replaces attention's share alone by what a run's
    kernels take for it, with a 90% interval; the weights stay at their floor. A cost is that of decoding alone.

    Exit codes: 0 done, 2 bad input.

    Example: mlabench plan --model deepseek-v3 --gpu h200 --gpus-count 8 --tp 1,8 -a kv_len=8192 --price 2.5
    """
    from mlabench.cli.plan_steps import Asked, run

    run(
        Asked(
            models=tuple(model or ()),
            gpus_counts=tuple(gpus_count or ()),
            gpus=tuple(gpu or ()),
            tps=tuple(tp or ()),
            dps=tuple(dp or ()),
            axis_texts=(*(axis or ()), *([f"dtype={dtype}"] if dtype else ())),
            cache_formats=tuple(cache_format or ()),
            weights_gb=weights_gb,
            weights_dtype=weights_dtype,
            reserve=reserve,
            price=price,
            models_file=models,
            gpus_file=gpus,
            calibrate=calibrate,
            verbose=verbose,
        ),
        options.kind_of(kind, as_json),
    )
