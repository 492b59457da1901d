"""Launches for processes other than the doctor's own, and the marks that tell them apart in a profiler's list."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from mlabench.cases.axes import Value
from mlabench.cases.case import Case
from mlabench.cases.grid import make_cases
from mlabench.errors import UsageError
from mlabench.measure.inputs import make_inputs, make_outputs, poison
from mlabench.measure.kernels import Kernel, kernels_for
from mlabench.measure.timing.method import Call

MARK_NAME = re.compile(r"(?<!_)spin_kernel")
"""In the name of the kernel that `mark` launches, which touches no memory; the timer's own spin has an underscore."""

Named = TypeVar("Named")


def make_case(axes: Mapping[str, Value]) -> Case:
    """The one case of these axes."""
    (case,) = make_cases({name: (value,) for name, value in axes.items()})
    return case


def choose_kernel(case: Case) -> Kernel:
    """The kernel that stands for the case on a GPU: the suite's Triton one. Raises `UsageError` where there is none."""
    for kernel in kernels_for(case, "cuda", ("triton",)):
        if not kernel.missing():
            return kernel
    raise UsageError(f"no Triton kernel takes {case.label}")


def bind_case(case: Case) -> tuple[Call, Call]:
    """A launch of the case on fresh inputs, compiled and called once; and what to run before it is timed."""
    inputs, outputs = make_inputs(case, 0, "cuda"), make_outputs(case, "cuda")
    launch = choose_kernel(case).load()(**inputs, **outputs, softmax_scale=case.variant.softmax_scale)
    launch()
    return launch, lambda: poison(outputs)


def mark() -> None:
    """Enqueue a kernel that a profiler lists under `MARK_NAME`."""
    import torch

    torch.cuda._sleep(1)  # type: ignore[no-untyped-call]


def split_at_marks(kernels: Iterable[tuple[str, Named]]) -> Iterator[list[Named]]:
    """From (kernel name, value) in the order of launch: the values behind each mark, up to the next."""
    group: list[Named] | None = None
    for name, value in kernels:
        if not MARK_NAME.search(name):
            if group is not None:
                group.append(value)
            continue
        if group is not None:
            yield group
        group = []
    if group is not None:
        yield group
