"""The examination on a GPU."""

import shutil
from collections.abc import Mapping

import pytest
import torch

from mlabench.doctor.counters import examine_counters
from mlabench.doctor.examine import choose_sections, diagnose
from mlabench.doctor.finding import Examination, Finding
from mlabench.doctor.opinions import CASES
from mlabench.doctor.second_opinions import examine_second_opinions
from mlabench.machine.fingerprint import take_fingerprint

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")]


def by_name(findings: tuple[Finding, ...] | list[Finding]) -> Mapping[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_the_timer_passes_its_self_test() -> None:
    diagnosis = diagnose("cuda", True, choose_sections({}), lambda _section: None, lambda _examined: None)
    assert {finding.name: finding.found for finding in diagnosis.findings if finding.status == "bad"} == {}
    found = by_name(diagnosis.findings)
    for name in (
        "truth",
        "truth in cycles",
        "slope of copies",
        "cold is cold",
        "memory given back",
        "mla_decode_triton",
    ):
        assert found[name].status == "good"


def test_tritons_own_timers_answer() -> None:
    found = by_name(examine_second_opinions(Examination("cuda", True, take_fingerprint("cuda"))))
    for name in ("do_bench", "do_bench_cudagraph"):
        assert len(found[name].data["launches"]) == 1 + len(CASES)


@pytest.mark.skipif(shutil.which("ncu") is None, reason="no ncu on the PATH")
def test_counters_tell_cold_from_warm() -> None:
    found = by_name(examine_counters(Examination("cuda", True, take_fingerprint("cuda"))))
    assert found["cold by counters"].status == found["planted warm"].status == "good"
