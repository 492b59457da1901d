"""Synthetic records and runs, made by arithmetic alone: nothing here was measured on any machine."""

import itertools
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlabench.cases.case import Case
from mlabench.cases.grid import make_cases
from mlabench.machine.ceilings import Ceilings
from mlabench.machine.fingerprint import Fingerprint
from mlabench.records.manifest import Manifest
from mlabench.records.record import Record, Status, Timing
from mlabench.records.store import RecordWriter, Run, claim_directory, write_manifest

CEILINGS = {
    "cpu": Ceilings(20e9, 15e9, 16e9, {"float32": 100e9, "bfloat16": 50e9}),
    "cuda": Ceilings(4.2e12, 4.25e12, 4.3e12, {"bfloat16": 788e12, "float16": 780e12, "float32": 400e12}),
}

FINGERPRINTS = {
    "cpu": Fingerprint(
        device="cpu",
        device_name="Synthetic CPU",
        processors=2,
        memory_bytes=16 * 10**9,
        power_limit_w=None,
        driver=None,
        cuda=None,
        torch="2.13.0",
        triton=None,
        python="3.11.0",
        system="Linux 6.1",
    ),
    "cuda": Fingerprint(
        device="cuda",
        device_name="Synthetic H200",
        processors=132,
        memory_bytes=150 * 10**9,
        power_limit_w=700.0,
        driver="580.0",
        cuda="13.0",
        torch="2.13.0",
        triton="3.5.0",
        python="3.12.0",
        system="Linux 6.1",
    ),
}

_RUNS = itertools.count()

LAUNCH_US = {"cpu": 40.0, "cuda": 6.0}
"""What a call costs before the first byte moves."""

FLOOR_FRACTION = {None: 0.85, "absorbed": 0.7, "recompute": 0.4, "expanded": 0.8}
"""By form, the share of the roofline that a long synthetic case reaches."""


def make_case(**fields: Any) -> Case:
    """One case from its fields; the grammar's defaults (MLA absorbed, 128 heads, batch 1) fill in the rest."""
    return make_cases({name: (value,) for name, value in fields.items()})[0]


def plausible_latency_us(case: Case, device: str = "cuda") -> float:
    """A latency that follows from the synthetic machine's roofline."""
    floor_us = CEILINGS[device].floor_us(case.bytes_moved, case.flops, case.dtype)
    assert floor_us is not None
    return LAUNCH_US[device] + floor_us / FLOOR_FRACTION[case.variant.form]


def make_record(
    case: Case,
    kernel: str = "synthetic_torch",
    latency_us: float | None = None,
    *,
    noise: float = 0.0,
    samples: int = 20,
    seed: int = 0,
    status: Status = "ok",
    reason: str = "",
    backend: str = "torch",
    method: str = "graph",
    cache: str | None = None,
    throttled: bool | None = None,
    device: str = "cuda",
    **overrides: Any,
) -> Record:
    """A record whose samples lie around `latency_us` (by default a plausible one) with relative deviation `noise`.

    Without noise every sample is `latency_us` itself. A status other than `ok` has no timing and no error. `cache` None
    is the method's own, `throttled` None leaves out the telemetry. `overrides` replace any other field of `Record`.
    """
    ok = status == "ok"
    level = plausible_latency_us(case, device) if latency_us is None else latency_us
    state = cache or ("warm" if method == "cpu" else "cold")
    values: dict[str, Any] = {
        "case": case,
        "kernel": kernel,
        "backend": backend,
        "method": method,
        "status": status,
        "reason": reason or ("" if ok else f"synthetic {status}"),
        "timing": Timing(_samples_us(level, noise, samples, seed), state, 3, "precise", 1.0) if ok else None,
        "relative_error": 2e-3 if ok else None,
        "lse_error": 1e-5 if ok else None,
        "workspace_bytes": 0 if ok else None,
        "telemetry": None if throttled is None else _telemetry(throttled),
        "seed": seed,
        "started_at": "2026-01-01T00:00:00+00:00",
        "wall_s": 0.5,
        "phases_s": {"inputs": 0.1, "reference": 0.1, "bind": 0.01, "check": 0.09, "measure": 0.2} if ok else {},
    }
    return Record(**values | overrides)


def make_run(
    path: Path | None,
    records: Sequence[Record],
    device: str = "cuda",
    *,
    warnings: Sequence[str] = (),
    **overrides: Any,
) -> Run:
    """A run in memory; `overrides` replace fields of the manifest, and `device_name` that of its fingerprint."""
    fingerprint = FINGERPRINTS[device]
    if "device_name" in overrides:
        plain = fingerprint.to_json() | {"device_name": overrides.pop("device_name")}
        fingerprint = Fingerprint.from_json(plain)
    values: dict[str, Any] = {
        # Another moment each: a run of the same moment and records is the same run.
        "created_at": f"2026-01-01T00:00:00.{next(_RUNS):06}+00:00",
        "config": {"synthetic": True},
        "provenance": _provenance(),
        "fingerprint": fingerprint,
        "ceilings": CEILINGS[device],
    }
    return Run(path or Path(f"synthetic-{device}"), Manifest(**values | overrides), tuple(records), tuple(warnings))


def create_run(path: Path, manifest: Manifest) -> None:
    """Make a run directory with its manifest and no record yet."""
    claim_directory(path)
    write_manifest(path, manifest)


def write_run(path: Path, run: Run) -> Path:
    """Store a run's manifest and records under `path`, as a sweep would; its warnings are not stored."""
    create_run(path, run.manifest)
    with RecordWriter(path) as writer:
        for record in run.records:
            writer.append(record)
    return path


def make_sweep(device: str = "cuda", *, noise: float = 0.01, **axes: Sequence[int | str]) -> tuple[Record, ...]:
    """One record for each variant and form on each combination of the axes, with plausible latencies.

    Axes default to batch 1, 16 and 128, kv_len 1k to 128k, and 128 heads.
    """
    common = {"batch": (1, 16, 128), "kv_len": (1024, 4096, 16384, 65536, 131072), "num_q_heads": (128,), **axes}
    forms = common.pop("form", ("absorbed", "recompute", "expanded"))
    variants = common.pop("variant", ("mha", "gqa", "mqa", "mla"))
    cases = [
        case
        for name in variants
        for case in make_cases({"variant": (name,), **({"form": forms} if name == "mla" else {}), **common})
    ]
    return tuple(
        make_record(case, f"{case.variant.name}_synthetic", noise=noise, seed=seed, device=device)
        for seed, case in enumerate(cases)
    )


def _samples_us(level: float, noise: float, count: int, seed: int) -> tuple[float, ...]:
    generator = random.Random(seed)
    return tuple(level * max(0.01, 1 + generator.gauss(0, noise)) for _ in range(count))


def _telemetry(throttled: bool) -> Mapping[str, Any]:
    reasons = ["software power cap"] if throttled else []
    sensors = {"sm_clock_mhz": 1400 if throttled else 1980, "power_w": 650.0, "temperature_c": 55}
    return {name: [value, value] for name, value in {**sensors, "clock_event_reasons": reasons}.items()}


def _provenance() -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "source_digest": "feedface00000000",
    }
