"""The tables of ragged batches and of sustained load, from sweeps with known times."""

from pathlib import Path

from tests.bench.mla_loads import main, ragged_times
from tests.factories import make_case, make_record, make_run, write_run


def records(times_us: dict[tuple[str, str, int], float]):
    """By kernel, distribution of lengths, and heads."""
    return [
        make_record(
            make_case(num_q_heads=heads, batch=32, kv_len=4096, kv_len_dist=dist), kernel=kernel, latency_us=time_us
        )
        for (kernel, dist, heads), time_us in times_us.items()
    ]


def write(path: Path, times_us: dict[tuple[str, str, int], float]) -> Path:
    return write_run(path, make_run(None, records(times_us)))


def test_both_tables(tmp_path: Path, monkeypatch, capsys) -> None:
    ours = ("mla_decode", "uniform", 16), ("mla_decode", "uniform", 64)
    ragged = write(tmp_path / "ragged", {ours[0]: 40.0, ("mla_decode", "ragged", 16): 44.0, ours[1]: 50.0})
    burst = write(tmp_path / "burst", {ours[0]: 40.0})
    loaded = write(tmp_path / "loaded", {ours[0]: 50.0, ("mla_decode_flash_mla", "uniform", 16): 60.0, ours[1]: 80.0})
    assert ragged_times(ragged) == {(16, 32, 4096): (40.0, 44.0)}
    asked = ("--ragged", ragged, "--burst", burst, "--sustained", loaded)
    monkeypatch.setattr("sys.argv", ["mla_loads", *map(str, asked)])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| 16 | 32 x 4k | 40 us | 44 us | 1.100 |"
    assert lines[4] == "| heads | batch x kv_len | burst | sustained | mla_decode_flash_mla / ours |"
    assert lines[6:] == ["| 16 | 32 x 4k | 40 us | 50 us | 1.200 |", "| 64 | 32 x 4k |  | 80 us |  |"]
