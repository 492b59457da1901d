"""The self-test of the timer: every check of it, on spins of known length and on real calls."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec

from mlabench.doctor.clearing import check_clearing
from mlabench.doctor.cold import check_cold
from mlabench.doctor.coverage import check_coverage
from mlabench.doctor.finding import Examination, Finding
from mlabench.doctor.repeats import check_pairs, check_slope
from mlabench.doctor.spinning import EFFORTS, CpuBench, CudaBench, Subject
from mlabench.doctor.truth import check_cycles, check_offset, check_truth
from mlabench.errors import UsageError
from mlabench.machine.fingerprint import DeviceKind
from mlabench.measure.timing.method import Budget, nothing
from mlabench.measure.timing.methods import METHODS, choose_method, make_timer
from mlabench.stats import relative_half_width
from mlabench.units import format_latency, format_percent

UNTESTED: Mapping[str, str] = {
    "sustained": "its samples are means of calls back to back, and a spin's overhead overlaps with the call before it"
}
"""Methods that the self-test does not fit, and why."""


def choose_tested(method: str, device: DeviceKind) -> str:
    """The method's name, with `auto` resolved. Raises `UsageError` for one that the self-test or the device has not."""
    if method in UNTESTED:
        raise UsageError(f"the self-test does not fit method {method!r}: {UNTESTED[method]}; choose another, or auto")
    return choose_method(method, device)


def check_sampling(subject: Subject) -> list[Finding]:
    """One measurement as a sweep makes it: when it stopped, on how many samples, with what overhead."""
    timing = subject.timer.measure(subject.bench.work(), nothing, Budget())
    half_width = relative_half_width(timing.samples_us)
    data = {
        "samples_us": list(timing.samples_us),
        "stop": timing.stop,
        "half_width": half_width,
        "warmup_calls": timing.warmup_calls,
        "overhead_us": timing.overhead_us,
        "cache": timing.cache,
    }
    text = (
        f"{len(timing.samples_us)} samples kept, stopped as '{timing.stop}' at ±{format_percent(half_width, 2)} "
        f"(aim {format_percent(Budget().precision, 1)}) after {timing.warmup_calls} warm-up calls; "
        f"overhead {format_latency(timing.overhead_us)}, method {subject.timer.method}, cache {timing.cache}"
    )
    if timing.stop == "precise":
        return [Finding("sampling", "good", text, data=data)]
    return [Finding("sampling", "warning", text, "the machine is restless: see load and processes above", data)]


CHECKS: tuple[Callable[[Subject], list[Finding]], ...] = (
    check_truth,
    check_cycles,
    check_offset,
    check_slope,
    check_pairs,
    check_coverage,
    check_cold,
    check_clearing,
    check_sampling,
)
"""Every check, in the order in which it is made and shown."""


def examine_timer(examination: Examination) -> list[Finding]:
    """Test the timing method that was asked for, or the device's default."""
    device = examination.device
    if device == "cuda" and find_spec("triton") is None:
        return [Finding("self-test", "bad", "not made: its spins are Triton kernels", "pip install triton")]
    method = choose_tested(examination.method, device)
    warm = make_timer(method, device, "warm") if "warm" in METHODS[device][method].caches else None
    bench = CudaBench() if device == "cuda" else CpuBench()
    return check_timer(Subject(make_timer(method, device), bench, EFFORTS[device, examination.quick], warm))


def check_timer(subject: Subject) -> list[Finding]:
    """Make every check."""
    return [finding for check in CHECKS for finding in check(subject)]
