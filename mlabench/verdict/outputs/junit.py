"""JUnit XML: a test case for each point, as CI servers list them."""

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from mlabench.errors import ExitCode, UsageError
from mlabench.verdict.gate import UNCLEAR, GateResult
from mlabench.verdict.outputs.rows import note, plain, refused, times
from mlabench.verdict.point import Point, Verdict

_SKIPPED = (Verdict.NEW, Verdict.MISSING, Verdict.UNMEASURED)


def render(result: GateResult) -> str:
    """The XML file. A point that fails the gate is a failure, one that cannot be judged an error.

    Skipped is what was not compared: new, without a time in either run, or missing where that is allowed. A gate that
    compared nothing, or not all that differs, is an error of its own, so that no file of a gate that failed is without.
    """
    root = Element("testsuites", name="mlabench gate")
    suite = SubElement(root, "testsuite", name="mlabench gate")
    properties = SubElement(suite, "properties")
    for name, value in (("summary", result.summary), ("current", result.current), *_baselines(result)):
        SubElement(properties, "property", name=name, value=plain(value))
    if result.exit_code is ExitCode.NOTHING_MEASURED:
        _add_error(suite, "something was compared", result.exit_code, result.summary)
    if result.blind_spot:
        _add_error(suite, "what differs was measured", ExitCode.INCONCLUSIVE, result.blind_spot)
    for point in result.points:
        _add(suite, result, point)
    counts = {f"{kind}s": str(len(suite.findall(f"testcase/{kind}"))) for kind in ("error", "failure")}
    counts["tests"] = str(len(suite.findall("testcase")))
    time = _seconds(sum(point.ratio.current_us for point in result.points if point.ratio))
    root.attrib.update(counts, time=time)
    suite.attrib.update(counts, time=time, skipped=str(len(suite.findall("testcase/skipped"))))
    if result.warnings:
        SubElement(suite, "system-out").text = "\n".join(f"warning: {plain(warning)}" for warning in result.warnings)
    return _text(root)


def refusal(error: UsageError) -> str:
    """The XML file of a gate that judged nothing: a single test case, an error."""
    counts = {"tests": "1", "errors": "1", "failures": "0", "time": _seconds(0)}
    root = Element("testsuites", {"name": "mlabench gate", **counts})
    suite = SubElement(root, "testsuite", {"name": "mlabench gate", **counts, "skipped": "0"})
    _add_error(suite, "the gate could judge", error.exit_code, refused(error))
    return _text(root)


def _text(root: Element) -> str:
    indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _add_error(suite: Element, name: str, code: ExitCode, message: str) -> None:
    case = SubElement(suite, "testcase", classname="mlabench.gate", name=name)
    SubElement(case, "error", type=code.name.lower(), message=plain(message))


def _baselines(result: GateResult) -> list[tuple[str, str]]:
    return [("baseline", baseline) for baseline in result.baselines]


def _add(suite: Element, result: GateResult, point: Point) -> None:
    case_id, kernel, method = point.key
    # The label says what people look for, the id is what two points never share.
    case = SubElement(
        suite, "testcase", classname=plain(f"mlabench.{kernel}.{method}"), name=plain(f"{point.label} [{case_id}]")
    )
    if point.ratio:
        case.set("time", _seconds(point.ratio.current_us))
    before, now, ratio = times(point)
    measured = f"{ratio}, {before} before and {now} now" if point.ratio else ""
    text = "; ".join(filter(None, (measured, note(point))))
    if kind := _kind(result, point):
        outcome = SubElement(case, kind, message=": ".join(filter(None, (point.verdict.value, text))))
        if kind != "skipped":
            outcome.set("type", point.verdict.value)
    elif text:
        SubElement(case, "system-out").text = f"{point.verdict.value}: {text}"


def _kind(result: GateResult, point: Point) -> str | None:
    if result.fails(point):
        return "failure"
    if point.verdict in UNCLEAR:
        return "error"
    return "skipped" if point.verdict in _SKIPPED else None


def _seconds(time_us: float) -> str:
    return f"{time_us / 1e6:.9f}"
