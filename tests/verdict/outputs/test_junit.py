from dataclasses import replace
from xml.etree.ElementTree import Element, fromstring

import pytest

from mlabench.errors import ExitCode
from mlabench.verdict.gate import GateResult
from mlabench.verdict.outputs.junit import render
from mlabench.verdict.point import Verdict
from tests.verdict.outputs.results import MEASURED, judged, point

ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors", "time"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testcase": {"name", "classname", "time"},
    "property": {"name", "value"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "skipped": {"message"},
}
"""What the schema of Jenkins's JUnit reader has of each element, as far as it is used; GitLab reads the same."""

CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase", "system-out"},
    "properties": {"property"},
    "testcase": {"failure", "error", "skipped", "system-out"},
}


def read(result: GateResult) -> Element:
    root = fromstring(render(result).encode())
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.attrib) <= ATTRIBUTES.get(element.tag, set())
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set())
    return root


def kinds(result: GateResult) -> list[str]:
    return [next((c.tag for c in case if c.tag != "system-out"), "passed") for case in read(result).iter("testcase")]


KINDS = {
    Verdict.INCORRECT: "failure",
    Verdict.LOST: "failure",
    Verdict.MISSING: "failure",
    Verdict.CHANGED: "failure",
    Verdict.SLOWER: "failure",
    Verdict.BROKEN: "error",
    Verdict.INVALID: "error",
    Verdict.INCONCLUSIVE: "error",
    Verdict.NEW: "skipped",
    Verdict.FASTER: "passed",
    Verdict.NOT_SLOWER: "passed",
    Verdict.SAME: "passed",
    Verdict.UNMEASURED: "skipped",
}


def test_each_verdict_is_a_kind_of_test_case() -> None:
    result = judged([point(verdict, name=verdict.value) for verdict in Verdict])
    assert dict(zip(Verdict, kinds(result), strict=True)) == KINDS
    root = read(result)
    assert dict(root.attrib) == {
        "name": "mlabench gate",
        "tests": "13",
        "failures": "5",
        "errors": "3",
        "time": "0.000500000",
    }
    (suite,) = root
    assert (suite.get("skipped"), suite.get("tests")) == ("2", "13")
    for case, verdict in zip(root.iter("testcase"), Verdict, strict=True):
        assert case.get("time") == ("0.000100000" if verdict in MEASURED else None)
        assert case.get("classname") == "mlabench.mla_decode_triton.graph"
    names = [case.get("name") for case in root.iter("testcase")]
    assert len(set(names)) == len(names)


def test_messages_say_why() -> None:
    root = read(judged([point(Verdict.SLOWER, 2.0), point(Verdict.FASTER, 0.5)], warnings=["cut short"]))
    assert root.find(".//failure").attrib == {  # type: ignore[union-attr]
        "type": "slower",
        "message": "slower: 2.000x [1.967, 2.033], 100 us before and 200 us now",
    }
    assert root.findtext(".//testcase/system-out") == "faster: 0.500x [0.492, 0.508], 100 us before and 50 us now"
    assert root.findtext("testsuite/system-out") == "warning: cut short"
    properties = [(item.get("name"), item.get("value")) for item in root.iter("property")]
    assert properties[1:] == [("current", "runs/now"), ("baseline", "baselines/a"), ("baseline", "baselines/b")]


@pytest.mark.parametrize("verdict", Verdict)
def test_no_gate_that_fails_writes_a_file_without_a_failure(verdict: Verdict) -> None:
    result = judged([point(verdict)])
    assert (result.exit_code is ExitCode.PASS) == {"failure", "error"}.isdisjoint(kinds(result))


def test_a_gate_without_a_point_is_an_error() -> None:
    root = read(judged([]))
    assert (root.get("tests"), root.get("errors")) == ("1", "1")


def test_a_missing_point_that_is_allowed_is_skipped() -> None:
    assert kinds(judged([point(Verdict.MISSING), point(Verdict.SAME)], allow_missing=True)) == ["skipped", "passed"]


def test_characters_that_xml_does_not_take_are_left_out() -> None:
    odd = 'a\x00b\x1b[0m\x0b\ud800\ufffe <&> "c"\nd'
    root = read(judged([point(Verdict.LOST, name=odd, reason=odd)], warnings=[odd]))
    assert root.find(".//failure").get("message") == 'lost: ab[0m <&> "c" d'  # type: ignore[union-attr]


def test_what_no_point_shows_is_an_error_of_its_own() -> None:
    result = replace(judged([point(Verdict.SAME)]), blind_spot="no point runs 1 of 2 files that differ")
    root = fromstring(render(result))
    assert (result.exit_code, root.get("errors")) == (ExitCode.INCONCLUSIVE, "1")
    (error,) = root.iter("error")
    assert error.get("message") == result.blind_spot
