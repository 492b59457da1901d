"""No false green: every seeded fault ends in its own exit code and says why; without the fault the same passes."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlabench.errors import ExitCode
from mlabench.measure.kernels import all_kernels
from mlabench.measure.timing.fake import FakeTimer
from tests.cli.commands import PLUGIN, SOURCES
from tests.doctor.stand_ins import LongTimer, StandInTimer, WarmTimer
from tests.factories import CEILINGS, make_case
from tests.faults.machine import compiled, examined, kernel_examined, timer_examined
from tests.faults.place import Place, Plant
from tests.faults.sides import UNBOUND, WRONG, sides
from tests.faults.stored import (
    content,
    counted_by,
    fields,
    fingerprint,
    lines,
    manifest,
    one_sample,
    preceded_by,
    records,
    replaced_by,
    shown,
    slower,
    stored,
    timing,
)
from tests.faults.sweeps import (
    DroppingTimer,
    FarWorker,
    on_a_full_disk,
    swept,
    swept_and_gated,
    swept_and_resumed,
)
from tests.git_kernels import PACKAGE

PASS, REGRESSION, USAGE, INCONCLUSIVE = ExitCode.PASS, ExitCode.REGRESSION, ExitCode.USAGE, ExitCode.INCONCLUSIVE
NO_BASELINE, INCORRECT, NOTHING = ExitCode.NO_BASELINE, ExitCode.INCORRECT, ExitCode.NOTHING_MEASURED

DAMAGED = "manifest.json is damaged"
OTHER_TERMS = "was measured on other terms"
EMPTY = lines(lambda _: [])
FIRST = slice(0, 1)
MANY = tuple(make_case(kv_len=4096 + 64 * step) for step in range(64))


@dataclass(frozen=True, slots=True)
class Fault:
    """How it is planted, which gives the command; the command's exit code, and a piece of what it says."""

    plant: Plant
    code: ExitCode
    message: str


KERNELS = {
    "a wrong result": Fault(swept("wrong"), INCORRECT, "relative error 0.02 is over 0.004"),
    "a wrong result among right ones": Fault(swept("mla_decode_torch", "wrong"), INCORRECT, "1 ok, 1 incorrect"),
    "nothing written after the first call": Fault(swept("stale"), INCORRECT, "not all of the output was written"),
    "the work done in bind": Fault(swept("remembering"), INCORRECT, "the timed call's relative error 2 is over"),
    "a result that drifts": Fault(swept("drifting"), INCORRECT, "the timed call's relative error 0.02"),
    "NaN in one element": Fault(swept("nan_element"), INCORRECT, "relative error is NaN"),
    "one row not written": Fault(swept("unwritten_row"), INCORRECT, "not all of the output was written"),
    "a result added to what was there": Fault(swept("adding"), INCORRECT, "relative error is NaN"),
    "the last token left out": Fault(swept("short"), INCORRECT, "is over 0.004"),
    "a cache slot read that holds no token": Fault(swept("long"), INCORRECT, "an unused cache slot was read"),
    "inputs that a call uses up": Fault(swept("spending"), INCORRECT, "is over 0.004"),
    "a result that is wrong for odd lengths": Fault(
        swept("uneven"), INCORRECT, "not timed: on a small ragged batch (kv_lens 193, 1, 33) relative error"
    ),
    "a result that is wrong for an empty request": Fault(
        swept("hollow"), INCORRECT, "not timed: on a small ragged batch (kv_lens 193, 0, 1, 33) relative error is NaN"
    ),
    "a wrong log-sum-exp": Fault(swept("wrong_lse"), INCORRECT, "log-sum-exp error"),
    "no log-sum-exp where one is promised": Fault(swept("no_lse"), INCORRECT, "log-sum-exp error is NaN"),
    "a kernel that is not in the captured graph": Fault(
        swept("mla_decode_torch", timer=DroppingTimer()), INCORRECT, "the timed call's relative error is NaN"
    ),
    "a timer that reads zero": Fault(
        swept("mla_decode_torch", timer=FakeTimer((0.0,) * 20)), NOTHING, "a sample is no positive number"
    ),
    "a timer that reads NaN": Fault(
        swept("mla_decode_torch", timer=FakeTimer((5.0, float("nan")))), NOTHING, "a sample is no positive number"
    ),
    "a timer that reads backwards": Fault(
        swept("mla_decode_torch", timer=FakeTimer((5.0, -1.0))), NOTHING, "a sample is no positive number"
    ),
    "no shape is supported": Fault(swept("narrow"), NOTHING, "unsupported: only 17 heads"),
    "no kernel takes the case": Fault(swept("grouped_decode_torch"), NOTHING, "none of the chosen kernels takes"),
    "no kernel is of this device": Fault(swept("mla_decode_triton"), NOTHING, "runs on cuda, not on cpu"),
    "no kernel is installed": Fault(swept("absent"), NOTHING, "a_package_that_is_not_there is not installed"),
    "every kernel raises": Fault(swept("raising"), NOTHING, "this kernel always fails"),
    "every kernel is out of memory": Fault(swept("hungry"), NOTHING, "oom: no room"),
    "every worker is killed": Fault(swept("killed", by=FarWorker), NOTHING, "the worker process died (SIGKILL)"),
    "every kernel ends its process as if all were well": Fault(
        swept("leaving", by=FarWorker), NOTHING, "the worker process died (exit code 0)"
    ),
    "a full disk": Fault(on_a_full_disk(swept("mla_decode_torch")), USAGE, "the records before are safe"),
    "an incorrect record in a run that goes on": Fault(
        swept_and_resumed("mla_decode_torch", "wrong"), INCORRECT, "1 ok, 1 incorrect"
    ),
    "a run that goes on with other sources": Fault(
        swept_and_resumed("mla_decode_torch", edit=manifest(provenance={"source_digest": "0" * 16})),
        USAGE,
        "its first records are of other sources",
    ),
    "a run of another version of a kernel": Fault(
        swept_and_resumed("slow", edit=manifest(kernel_sources={"slow": {"version": "0.9"}})),
        USAGE,
        "slow is of faulty-kernels 1.0",
    ),
}

GATED_SWEEPS = {
    "a kernel became wrong": Fault(swept_and_gated("wrong"), INCORRECT, "1 of 2 points incorrect"),
    "a kernel ran out of memory": Fault(swept_and_gated("hungry"), REGRESSION, "1 of 2 points no longer measured"),
    "a kernel became picky": Fault(swept_and_gated("narrow"), REGRESSION, "1 of 2 points no longer measured"),
    "a worker was killed in one point": Fault(
        swept_and_gated("killed", FarWorker), REGRESSION, "1 of 2 points no longer measured"
    ),
    "a kernel hangs": Fault(
        swept_and_gated("hanging", FarWorker, timeout_s=4), REGRESSION, "1 of 2 points no longer measured"
    ),
}

STORED_RUNS = {
    "slower by 10%": Fault(stored(now=records(slower(1.1))), REGRESSION, "8 of 8 points slower"),
    "one of 64 slower by 10%": Fault(
        stored(now=records(slower(1.1), FIRST), cases=MANY), REGRESSION, "1 of 64 points slower"
    ),
    "slower by 5%, which the noise leaves open": Fault(
        stored(now=records(slower(1.05))), INCONCLUSIVE, "points inconclusive"
    ),
    "slower in time and the same in clock cycles": Fault(
        stored(now=records(slower(1.1, 1800)), before=records(slower(1, 1980))),
        INCONCLUSIVE,
        "8 of 8 points inconclusive",
    ),
    "half of the points missing": Fault(stored(now=lines(lambda all_: all_[::2])), REGRESSION, "4 of 8 points missing"),
    "a record cut short": Fault(
        stored(now=content("records.jsonl", lambda whole: whole[:-40])), REGRESSION, "1 of 8 points missing"
    ),
    "a corrupt line in the middle": Fault(
        stored(now=lines(lambda all_: [*all_[:3], all_[3][:200] + b"\n", *all_[4:]])), USAGE, "line 4: not a record"
    ),
    "a block of zeros in the middle": Fault(
        stored(now=lines(lambda all_: [*all_[:3], bytes(512) + b"\n", *all_[4:]])), USAGE, "line 4: not a record"
    ),
    "no records file": Fault(
        stored(now=lambda path: (path / "records.jsonl").unlink()), NOTHING, "nothing was measured in the current run"
    ),
    "records that cannot be read": Fault(
        stored(now=lambda path: [(path / "records.jsonl").unlink(), (path / "records.jsonl").mkdir()]),
        USAGE,
        "cannot read now: Is a directory",
    ),
    "a run without records": Fault(stored(now=EMPTY), NOTHING, "nothing was measured in the current run"),
    "a run of unsupported points": Fault(
        stored(now=records(fields(status="unsupported", timing=None))), NOTHING, "nothing was measured in the current"
    ),
    "points that are all incorrect": Fault(
        stored(now=records(fields(status="incorrect", timing=None))), INCORRECT, "8 of 8 points incorrect"
    ),
    "disjoint cases": Fault(
        stored(now=lines(lambda all_: all_[:4]), before=lines(lambda all_: all_[4:])), NOTHING, "nothing was compared"
    ),
    "a kernel of another name": Fault(
        stored(now=records(fields(kernel="renamed"))), NOTHING, "no measured point is in both runs"
    ),
    "all points missing where that is allowed": Fault(
        shown(stored(now=records(fields(kernel="renamed"))), "gate", "now", "-b", "before", "--allow-missing"),
        NOTHING,
        "no measured point is in both runs",
    ),
    "an incorrect record repeated as a right one": Fault(
        stored(now=preceded_by(status="incorrect", timing=None)), INCORRECT, "1 of 8 points incorrect"
    ),
    "a status that does not exist": Fault(
        stored(now=records(fields(status="fine"), FIRST)), USAGE, "line 1: not a record (status 'fine' is unknown)"
    ),
    "a baseline status that does not exist": Fault(
        stored(before=records(fields(status="fine"), FIRST)), NO_BASELINE, "status 'fine' is unknown"
    ),
    "ok without a time": Fault(
        stored(now=records(fields(timing=None), FIRST)), USAGE, "a record that is ok lacks its timing"
    ),
    "a time of an incorrect kernel": Fault(
        stored(now=records(fields(status="incorrect"), FIRST)), USAGE, "a record that is incorrect has a timing"
    ),
    "NaN among the samples": Fault(stored(now=one_sample("NaN")), USAGE, "NaN is no measurement"),
    "an infinite sample": Fault(stored(now=one_sample("1e999")), USAGE, "its samples are not positive numbers"),
    "a sample of zero": Fault(stored(now=one_sample("0.0")), USAGE, "its samples are not positive numbers"),
    "a negative sample": Fault(stored(now=one_sample("-400")), USAGE, "its samples are not positive numbers"),
    "a baseline sample of zero": Fault(stored(before=one_sample("0")), NO_BASELINE, "samples are not positive numbers"),
    "no samples": Fault(stored(now=records(timing(samples_us=[]))), USAGE, "its samples are not positive numbers"),
    "too few samples": Fault(
        stored(now=records(timing(samples_us=[400.0] * 4))), INCONCLUSIVE, "8 of 8 points not comparable"
    ),
    "warm against cold": Fault(
        stored(now=records(timing(cache="warm"))), INCONCLUSIVE, "caches differ: cold against warm"
    ),
    "a cold call faster than the memory": Fault(
        stored(now=records(slower(0.001))), INCONCLUSIVE, "as fast as the roofline allows a cold call"
    ),
    "an error without a baseline": Fault(
        stored(now=records(fields(status="error", timing=None), FIRST), before=lines(lambda all_: all_[1:])),
        INCONCLUSIVE,
        "1 of 8 points broken without a baseline",
    ),
    "FLOP of ragged lengths counted as of the longest": Fault(
        stored(now=counted_by("attended_pairs", lambda case: case.batch * case.q_len * max(case.kv_lens))),
        REGRESSION,
        "4 of 8 points with changed exact counts",
    ),
    "bytes of whole pages for those of tokens": Fault(
        stored(now=counted_by("kv_cache_bytes", lambda case: case.kv_cache_allocated_bytes)),
        REGRESSION,
        "points with changed exact counts",
    ),
    "sensors that are no table": Fault(stored(now=records(fields(telemetry=[1]))), USAGE, "telemetry is no table"),
    "a count that is no longer stored": Fault(
        stored(now=records(lambda plain: plain["arithmetic"].pop("flops"))), INCONCLUSIVE, "not all exact counts are"
    ),
    "a baseline without counts": Fault(
        stored(before=records(fields(arithmetic={}))), INCONCLUSIVE, "not all exact counts are stored"
    ),
    "a run as its own baseline": Fault(
        shown(stored(), "gate", "now", "--baseline", "now"), USAGE, "which say nothing of themselves"
    ),
    "a copy of the run as its baseline": Fault(
        stored(now=replaced_by("before")), USAGE, "which say nothing of themselves"
    ),
    "a copy that went on as its baseline": Fault(
        stored(now=replaced_by("before", lines(lambda all_: all_[:4]))), USAGE, "which say nothing of themselves"
    ),
    "one baseline given as two": Fault(
        shown(stored(), "gate", "now", "-b", "before", "-b", "./before"), USAGE, "which say nothing of themselves"
    ),
}

MANIFESTS = {
    "a garbled manifest": Fault(stored(now=content("manifest.json", lambda whole: whole[:99])), USAGE, DAMAGED),
    "a garbled manifest of the baseline": Fault(
        stored(before=content("manifest.json", lambda whole: whole[:99])), NO_BASELINE, DAMAGED
    ),
    "a manifest whose settings are no table": Fault(stored(now=manifest(config=[1])), USAGE, "config is no table"),
    "a manifest whose provenance is no table": Fault(
        stored(before=manifest(provenance="x")), NO_BASELINE, "provenance is no table"
    ),
    "a manifest whose machine is no table": Fault(stored(before=manifest(fingerprint=[])), NO_BASELINE, DAMAGED),
    "a manifest whose ceilings are zero": Fault(
        stored(now=manifest(ceilings=CEILINGS["cuda"].to_json() | {"read_bytes_per_s": 0})), USAGE, DAMAGED
    ),
    "no baseline": Fault(
        shown(stored(), "gate", "now", "--baseline", "nowhere"), NO_BASELINE, "nowhere is not a run directory"
    ),
    "no baseline of the device": Fault(
        shown(stored(), "gate", "now"), NO_BASELINE, "there is no baseline under results/baselines/synthetic-h200"
    ),
    "a least effect that hides everything": Fault(
        shown(stored(now=records(slower(2))), "gate", "now", "-b", "before", "--min-effect", "5"),
        USAGE,
        "must lie between 0 and 1",
    ),
    "no run named and none there": Fault(shown(stored(), "gate", "-b", "before"), USAGE, "there is no run under"),
    "no run": Fault(shown(stored(), "gate", "nowhere", "--baseline", "before"), USAGE, "not a run directory"),
    "a baseline without a measured point": Fault(
        stored(before=records(fields(status="error", timing=None))), NOTHING, "no measured point is in both runs"
    ),
    "a baseline without records": Fault(stored(before=EMPTY), NOTHING, "no measured point is in both runs"),
    "a baseline of a newer schema": Fault(
        stored(before=manifest(schema_version=2)), NO_BASELINE, "before/manifest.json: the run has schema version 2"
    ),
    "another GPU": Fault(stored(before=fingerprint(device_name="Other GPU")), NO_BASELINE, OTHER_TERMS),
    "a part of the GPU": Fault(stored(before=fingerprint(processors=16)), NO_BASELINE, OTHER_TERMS),
    "another driver": Fault(stored(before=fingerprint(driver="570.1")), NO_BASELINE, OTHER_TERMS),
    "another CUDA": Fault(stored(before=fingerprint(cuda="12.8")), NO_BASELINE, OTHER_TERMS),
    "another torch": Fault(stored(before=fingerprint(torch="2.9.0")), NO_BASELINE, OTHER_TERMS),
    "another Triton": Fault(stored(before=fingerprint(triton=None)), NO_BASELINE, OTHER_TERMS),
    "another power limit": Fault(stored(before=fingerprint(power_limit_w=500.0)), NO_BASELINE, OTHER_TERMS),
    "another method": Fault(
        stored(before=records(fields(method="events"))), NO_BASELINE, "method 'graph' against 'events'"
    ),
}

SIDE_BY_SIDE = {
    "a commit that is not there": Fault(
        sides("gate", "--ab", "nowhere", "--kernel", "mended"), USAGE, "has no commit 'nowhere'"
    ),
    "a candidate that is wrong": Fault(
        sides("gate", "--ab", "HEAD", "--kernel", "mended", current=WRONG), INCORRECT, "1 of 1 points incorrect"
    ),
    "a candidate that cannot be bound": Fault(
        sides("gate", "--ab", "HEAD", "--kernel", "mended", current=UNBOUND), NOTHING, "it cannot be bound"
    ),
    "a candidate that cannot be bound among others": Fault(
        sides("gate", "--ab", "HEAD", "--kernel", "versioned", current=UNBOUND),
        REGRESSION,
        "1 of 3 points no longer measured",
    ),
    "a base that is wrong": Fault(
        sides("gate", "--ab", "HEAD", "--kernel", "mended", base=WRONG), INCONCLUSIVE, "1 of 1 points not comparable"
    ),
    "a base that cannot be bound": Fault(
        sides("gate", "--ab", "HEAD", "--kernel", "mended", base=UNBOUND), INCONCLUSIVE, "it cannot be bound"
    ),
    "a base without the kernel": Fault(
        sides("gate", "--ab", "main~2", "--kernel", "added"), INCONCLUSIVE, "if the kernel is new, add --allow-new"
    ),
    "nothing but a new kernel": Fault(
        sides("gate", "--ab", "main~2", "--kernel", "added", "--allow-new"), NOTHING, "no measured point"
    ),
    "a candidate that is wrong in a file beside its package": Fault(
        sides("gate", "--ab", "HEAD", "--kernel", "mended", current=WRONG, file="helper_beside.py"),
        INCORRECT,
        "1 of 1 points incorrect",
    ),
    "a pair that may take as long as its time limit": Fault(
        sides("gate", "--ab", "HEAD", "--kernel", "mended", "--max-s", "600"), USAGE, "must be less than the 600 s"
    ),
    "a side that is wrong": Fault(sides("ab", "mended@HEAD", "mended", current=WRONG), INCORRECT, "incorrect"),
    "a side that cannot be bound": Fault(
        sides("ab", "mended@HEAD", "mended", base=UNBOUND), NOTHING, "it cannot be bound"
    ),
}

MACHINE_CODE = {
    "a spill": Fault(compiled(spill_stores=4, spill_loads=4), REGRESSION, "1 of 1 configurations differ"),
    "16 registers more": Fault(compiled(registers=184), REGRESSION, "1 of 1 configurations differ"),
    "a lost matrix instruction": Fault(compiled(matrix_instructions={"HMMA": 64}), REGRESSION, "1 of 1 configurations"),
    "nothing compiles": Fault(
        compiled(status="error", function="", registers=None), NOTHING, "nothing was compiled in 1 configurations"
    ),
    "machine code of another Triton": Fault(compiled(triton="9.9.8"), NO_BASELINE, "was made with Triton 9.9.9"),
    "no machine code of this Triton": Fault(compiled(baseline=()), NO_BASELINE, "there is no baseline"),
}

DOCTOR = {
    "a warm cache labelled cold": Fault(timer_examined(WarmTimer), REGRESSION, "not clearly slower than warm"),
    "a timer that reads 2% long": Fault(timer_examined(LongTimer), REGRESSION, "long ones by +2.00%"),
    "a wrong kernel under the doctor": Fault(kernel_examined("wrong"), REGRESSION, "incorrect on MLA absorbed"),
    "an examination that breaks off": Fault(
        examined(lambda _: [][0]), REGRESSION, "the examination broke off: IndexError"
    ),
}

SHOWN = {
    "a report of no records": Fault(shown(stored(now=EMPTY), "report", "now"), NOTHING, "no records to report"),
    "a report of no measured point": Fault(
        shown(stored(now=records(fields(status="oom", timing=None))), "report", "now"), NOTHING, "nothing was measured"
    ),
    "a report of a damaged run": Fault(
        shown(stored(now=one_sample("0")), "report", "now"), USAGE, "samples are not positive numbers"
    ),
    "an export of no records": Fault(shown(stored(now=EMPTY), "export", "now"), NOTHING, "no records to export"),
    "an export of a damaged run": Fault(
        shown(stored(now=manifest(provenance=None)), "export", "now"), USAGE, "provenance is no table"
    ),
    "a comparison of disjoint runs": Fault(
        shown(stored(now=records(fields(kernel="renamed"))), "compare", "before", "now"),
        NOTHING,
        "nothing was compared",
    ),
}

FAULTS = KERNELS | GATED_SWEEPS | STORED_RUNS | MANIFESTS | SIDE_BY_SIDE | MACHINE_CODE | DOCTOR | SHOWN

CONTROLS: dict[str, Plant] = {
    "a sweep": swept("mla_decode_torch", "switchable"),
    "a sweep by a process": swept("mla_decode_torch", by=FarWorker),
    "a sweep that goes on": swept_and_resumed("mla_decode_torch"),
    "a gate over two sweeps": swept_and_gated(),
    "a gate over stored runs": stored(),
    "a gate over many": stored(cases=MANY),
    "a gate with clocks": stored(now=records(slower(1, 1980)), before=records(slower(1, 1980))),
    "a gate over counts by the same formula": stored(now=counted_by("attended_pairs", lambda case: case.cached_tokens)),
    "a gate over the same manifest": stored(before=fingerprint()),
    "a gate against a commit": sides("gate", "--ab", "HEAD", "--kernel", "versioned"),
    "a gate against a commit with every setting": sides(
        *("gate", "--ab", "HEAD", "--kernel", "mended", "--method", "cpu", "--cache", "warm", "--dtype", "float32"),
        *("--where", "batch == 1", "--seed", "3", "--max-s", "2", "--min-effect", "0.2"),
    ),
    "a gate whose kernel is in a file beside its package": sides(
        "gate", "--ab", "HEAD", "--kernel", "mended", file="helper_beside.py"
    ),
    "two kernels side by side": sides("ab", "mended@HEAD", "mended"),
    "a static gate": compiled(),
    "the doctor on a timer": timer_examined(StandInTimer),
    "the doctor on a kernel": kernel_examined("mla_decode_torch"),
    "a report": shown(stored(), "report", "now", "--format", "html"),
    "an export": shown(stored(), "export", "now"),
    "a comparison": shown(stored(), "compare", "before", "now"),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(PLUGIN), *sys.path])
    monkeypatch.setenv("PYTHONPATH", f"{SOURCES}:{PLUGIN}")
    all_kernels.cache_clear()
    yield Place(tmp_path, monkeypatch)
    all_kernels.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_in_its_exit_code_and_says_why(place: Place, capfd: pytest.CaptureFixture[str], name: str) -> None:
    fault = FAULTS[name]
    command = fault.plant(place)
    capfd.readouterr()
    code = place.run(*command)
    said = "".join(capfd.readouterr())
    assert code == fault.code, said
    assert fault.message in said


@pytest.mark.parametrize("name", CONTROLS)
def test_without_a_fault_the_same_passes(place: Place, capfd: pytest.CaptureFixture[str], name: str) -> None:
    code = place.run(*CONTROLS[name](place))
    assert code == PASS, "".join(capfd.readouterr())


def test_at_least_thirty_faults_are_seeded_and_none_may_pass() -> None:
    families = (KERNELS, GATED_SWEEPS, STORED_RUNS, MANIFESTS, SIDE_BY_SIDE, MACHINE_CODE, DOCTOR, SHOWN)
    assert len(FAULTS) == sum(map(len, families)) >= 30
    assert PASS not in {fault.code for fault in FAULTS.values()}
