"""`mlabench predict`: the options; `predict_steps` does the work, and is loaded for it alone."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlabench.cli import options

Gpus = Annotated[
    list[str] | None,
    typer.Option(
        "--gpu",
        help="A GPU, or all; see `mlabench list gpus`.",
        show_default="h200-sxm, or that of RUN",
        autocompletion=options.gpu_names,
    ),
]
Ranks = Annotated[list[str] | None, typer.Option("--tp", help="GPUs that share the heads: 1,2,4,8.", show_default="1")]
Replicas = Annotated[
    list[str] | None,
    typer.Option("--dp", help="Replicas, each with a batch of its own, as in DP attention.", show_default="1"),
]

Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say what --calibrate fitted to each kernel, and how far it is off.")
]


def predict(
    axis: Annotated[
        list[str] | None,
        typer.Option("--axis", "-a", help="NAME=VALUES as in a sweep: batch=1,8 or kv_len[pow2]=10:17."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="A model preset, all, or ./config.json of a Hugging Face checkpoint.",
            autocompletion=options.model_names,
        ),
    ] = None,
    gpu: Gpus = None,
    tp: Ranks = None,
    dp: Replicas = None,
    dtype: options.Dtype = None,
    cache_format: options.CacheFormat = None,
    where: options.Where = None,
    models: Annotated[
        Path | None,
        typer.Option(
            "--models", help="A TOML file with models of your own, as in models.toml; all of it without --model."
        ),
    ] = None,
    gpus: Annotated[
        Path | None,
        typer.Option("--gpus", help="A TOML file with GPUs of your own, as in gpus.toml; all of it without --gpu."),
    ] = None,
    crossovers: Annotated[
        bool,
        typer.Option(
            "--crossovers", help="Instead of the rows, where one choice overtakes another; in time with --calibrate."
        ),
    ] = False,
    calibrate: Annotated[
        Path | None, typer.Option("--calibrate", metavar="RUN", help="Latencies too, from what a run measured.")
    ] = None,
    kind: Annotated[
        Literal["table", "json", "csv", "md"],
        typer.Option("--format", "-f", help="How to write the rows: md is the table."),
    ] = "table",
    verbose: Verbose = False,
    as_json: options.AsJson = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the floors, as .png or .svg.")
    ] = None,
) -> None:
    """Say from arithmetic alone what attention costs: no GPU, nothing measured.

    A row is a model on a GPU at one case: cache bytes, the least bytes moved, FLOP, and the floor, the longer of the
    times that moving and computing take under the GPU's published peaks. All are of one layer and, with --tp, of one
    rank, whose batch is the case's. Of all layers are kv_cache_bytes_per_token, what one token more adds to a request
    that is longer than every sliding window, and kv_cache_bytes_all_layers, what the batch holds at its kv_len: there
    layers with a window hold no more than it, and an indexer's cache counts; in the floor of a layer neither does.
    floor_speedup_vs_X is the floor of variant X at the same size over the row's: 2 is twice as fast.

    A model whose weights leave no room on one GPU of --tp is named below the table: heads split over more ranks compare
    otherwise. --cache-format leaves out, with a warning, what it does not hold.

    --calibrate fits what the kernels of a run reach of its measured ceilings, of attention alone and of whole layers
    apart, and adds latency_us and an interval that held nine in ten of the points that its fit had not seen,
    measured_us where the run holds the case, and latency_speedup_vs_X, the latency of variant X over the row's, with an
    interval. The errors by regime go to standard error. RUN is one of bursts, not of --method sustained.

    --crossovers solves for the kv_len at which one floor overtakes another, the heads from which MLA is compute-bound,
    the new tokens up to which absorbing beats expanding, and the tp from which grouped attention caches less than MLA.

    --crossovers --calibrate RUN with a model, axes or --tp says from which kv_len on its attention is predicted to take
    less time than each other variant at its size, between which lengths the 90% interval leaves that open, and where
    the run itself measured it.

    --crossovers --calibrate RUN alone shows where absorbed MLA and its rivals overtake one another in a run: the length
    as measured, beside the one that the half of the run without each case predicts, and how many steps of the run's
    grid they are apart. A measured crossing reaches over all lengths around it at which the two are within 5% of each
    other. --where chooses among the run's cases.

    Exit codes: 0 done, 2 bad input.

    Example: mlabench predict --model deepseek-v3 --model llama-3.1-405b --gpu h200 --tp 1,8 -a "kv_len[pow2]=12:17"
    """
    from mlabench.cli.predict_steps import Asked, run

    run(
        Asked(
            axis_texts=(*(axis or ()), *([f"dtype={dtype}"] if dtype else ())),
            models=tuple(model or ()),
            gpus=tuple(gpu or ()),
            tps=tuple(tp or ()),
            dps=tuple(dp or ()),
            where=where or "",
            models_file=models,
            gpus_file=gpus,
            calibrate=calibrate,
            cache_formats=tuple(cache_format or ()),
            verbose=verbose,
        ),
        options.kind_of(kind, as_json),
        crossovers=crossovers,
        plot=plot,
    )
