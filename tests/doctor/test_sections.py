"""Ceilings, kernels, and the diagnosis as a whole."""

import json
from dataclasses import replace

import pytest

from mlabench.doctor import examine
from mlabench.doctor.ceilings import find_datasheet, judge_ceilings
from mlabench.doctor.examine import SECTIONS, Section, choose_sections, diagnose
from mlabench.doctor.finding import Examination, Finding
from mlabench.doctor.kernels import SMALL_CASES, examine_kernels, judge_kernel
from mlabench.machine.ceilings import Ceilings
from mlabench.measure.check import REFERENCES
from mlabench.measure.kernels import KERNELS, find_kernel
from tests.factories import FINGERPRINTS, make_case, make_record

H200 = find_datasheet("NVIDIA H200")


def test_ceilings_beside_the_datasheet() -> None:
    findings = judge_ceilings(Ceilings(4.2e12, 3.0e12, 4.3e12, {"bfloat16": 700e12, "float32": 400e12}), H200)
    found = {finding.name: finding for finding in findings}
    assert found["memory read"].status == "good"
    assert found["memory read"].found == "4.2 TB/s, 87.5% of the datasheet's 4.8 TB/s"
    assert found["memory write"].status == found["products in bfloat16"].status == "warning"
    assert "70.7%" in found["products in bfloat16"].found
    assert found["products in float32"].data["datasheet_per_s"] is None


def test_a_device_without_a_datasheet_is_only_told() -> None:
    assert not find_datasheet("Some CPU")
    assert {f.status for f in judge_ceilings(Ceilings(1e10, 1e10, 1e10, {"float32": 1e11}), {})} == {"good"}


def test_every_contract_has_a_small_case() -> None:
    assert set(SMALL_CASES) == set(REFERENCES)


def test_every_kernel_of_the_suite_is_tried() -> None:
    findings = {f.name: f for f in examine_kernels(Examination("cpu", True, FINGERPRINTS["cpu"]))}
    assert {kernel.name for kernel in KERNELS} <= set(findings)
    for kernel in KERNELS:
        expected = "good" if "cpu" in kernel.devices else "not here"
        assert findings[kernel.name].status == expected, findings[kernel.name].found
        assert (findings[kernel.name].data["bind_s"] is not None) == (expected == "good")


@pytest.mark.parametrize(
    ("status", "expected"),
    [("incorrect", "bad"), ("error", "bad"), ("oom", "bad"), ("unsupported", "warning"), ("unavailable", "not here")],
)
def test_a_kernel_that_fails(status: str, expected: str) -> None:
    record = make_record(make_case(), status=status, reason="a reason")  # type: ignore[arg-type]
    finding = judge_kernel(find_kernel("mla_decode_torch"), record, "cpu")
    assert finding.status == expected
    assert "a reason" in finding.found + finding.mend


def good(_examination: Examination) -> list[Finding]:
    return [Finding("fine", "good", "all is well", data={"number": 1.5})]


def warning(_examination: Examination) -> list[Finding]:
    return [Finding("odd", "warning", "look at this", "mend it")]


def broken(_examination: Examination) -> list[Finding]:
    raise ValueError("no such luck\nand more")


def run(*parts: Section) -> examine.Diagnosis:
    heard: list[str] = []
    diagnosis = diagnose("cpu", True, parts, lambda s: heard.append(s.name), lambda e: heard.append(e.section.title))
    assert heard == [word for part in parts for word in (part.name, part.title)]
    return diagnosis


def test_warnings_do_not_fail_and_what_is_bad_does() -> None:
    parts = Section("one", "One", good), Section("two", "Two", warning)
    assert run(*parts).exit_code == 0
    assert run(*parts, Section("three", "Three", broken)).exit_code == 1


def test_a_section_that_breaks_off_is_a_finding_and_the_next_is_made() -> None:
    diagnosis = run(Section("one", "One", broken), Section("two", "Two", good))
    assert [finding.status for finding in diagnosis.findings] == ["bad", "good"]
    assert diagnosis.findings[0].found == "the examination broke off: ValueError: no such luck"


def test_json_has_the_machine_the_code_and_the_raw_numbers() -> None:
    plain = json.loads(json.dumps(run(Section("one", "One", good)).to_json(), allow_nan=False))
    assert plain["schema_version"] == 1
    assert plain["fingerprint"]["device"] == plain["device"] == "cpu"
    assert len(plain["provenance"]["source_digest"]) == 16
    (section,) = plain["sections"]
    assert section["findings"][0]["data"] == {"number": 1.5}


def test_optional_sections_are_made_when_asked_for() -> None:
    always = {section.name for section in choose_sections({})}
    assert always == {"machine", "ceilings", "timer", "kernels"}
    assert {s.name for s in choose_sections({"counters": True})} - always == {"counters"}
    assert choose_sections({"cross_check": True, "counters": True}) == SECTIONS


def test_a_proof_that_a_cpu_cannot_give_is_bad_where_it_was_asked_for() -> None:
    examination = Examination("cpu", True, replace(FINGERPRINTS["cpu"]))
    for section in SECTIONS:
        if section.option:
            assert [(f.status, bool(f.mend)) for f in section.examine(examination)] == [("bad", True)]
