"""A run as a file for other tools: one row a record, the numbers as they were stored."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

from mlabench.errors import UsageError, near_names
from mlabench.records.frame import frame, rows
from mlabench.records.store import Run

MARKDOWN_COLUMNS = (
    *("case_id", "variant", "form", "phase", "scope", "kernel", "backend", "batch", "q_len", "kv_len"),
    *("num_q_heads", "num_kv_heads", "dtype", "page_size", "status", "reason", "method"),
    *("latency_us", "latency_us_low", "latency_us_high", "samples", "kv_cache_bytes", "bytes_moved", "flops"),
    *("bandwidth_bytes_per_s", "flops_per_s", "fraction_of_floor", "relative_error"),
)
"""A Markdown table is read by people: it leaves out the columns that only machines ask for."""


def export_bytes(run: Run, kind: str) -> bytes:
    """All records of a run as `csv`, `json`, `parquet` or `md`.

    Raises `UsageError` for an unknown format, and for parquet where pyarrow is missing.
    """
    if kind not in FORMATS:
        raise UsageError(f"unknown format {kind!r}: {near_names(kind, FORMATS)}")
    return FORMATS[kind](run)


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step, so that a reader sees the old file or the new one. Raises `UsageError`."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(content)
            return
        target = path.resolve()
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            partial.write_bytes(content)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another -o") from None


def _csv(run: Run) -> bytes:
    return frame([run]).to_csv(index=False, lineterminator="\n").encode()


def _json(run: Run) -> bytes:
    return json.dumps(rows(run), indent=1, allow_nan=False).encode() + b"\n"


def _parquet(run: Run) -> bytes:
    buffer = io.BytesIO()
    try:
        frame([run]).to_parquet(buffer, engine="pyarrow", index=False)
    except ImportError:
        raise UsageError("parquet needs pyarrow: pip install 'mlabench[parquet]', or choose --format csv") from None
    return buffer.getvalue()


def _markdown(run: Run) -> bytes:
    table = frame([run])[list(MARKDOWN_COLUMNS)]
    # A case id of digits alone, or with one e among them, is text that looks like a number.
    text_columns = len(table) > 0 and [place for place, dtype in enumerate(table.dtypes) if dtype.kind not in "iuf"]
    plain = table.astype(object).where(table.notna(), None)
    plain["reason"] = [" ".join(reason.split()).replace("|", "\\|") for reason in plain["reason"]]
    return (plain.to_markdown(index=False, disable_numparse=text_columns) + "\n").encode()


FORMATS: dict[str, Callable[[Run], bytes]] = {"csv": _csv, "json": _json, "md": _markdown, "parquet": _parquet}
"""What each format writes."""
