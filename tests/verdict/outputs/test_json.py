import json

from mlabench.verdict.outputs.json import render
from mlabench.verdict.point import Change, Verdict
from tests.verdict.outputs.results import judged, point


def test_json_holds_both_ratios_and_null_for_what_was_not_measured() -> None:
    changed = point(Verdict.CHANGED, changes=(Change("flops", 2, 1),))
    plain = json.loads(render(judged([point(Verdict.SLOWER, 1.5), changed], warnings=["odd"])))
    assert (plain["schema_version"], plain["command"], plain["outcome"]) == (1, "gate", "regression")
    assert (plain["current"], plain["baselines"]) == ("runs/now", ["baselines/a", "baselines/b"])
    assert plain["warnings"] == ["odd"]
    slower, other = plain["points"]
    assert slower["ratio"] == slower["cycles_ratio"] == 1.5
    assert slower["cycles_ratio_low"] < 1.5 < slower["cycles_ratio_high"]
    assert other["ratio"] is None and other["cycles_ratio"] is None
    assert other["changes"] == [{"name": "flops", "baseline": 2, "current": 1}]
