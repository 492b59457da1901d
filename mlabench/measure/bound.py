"""A case that is prepared, and a kernel that is bound to it: what is poisoned, called and checked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlabench.cases.case import Case
from mlabench.cases.tensors import OUTPUT
from mlabench.measure.check import Expected
from mlabench.measure.inputs import is_poison, poison
from mlabench.measure.kernels import Kernel, Launch, launch_config
from mlabench.records.record import Status

if TYPE_CHECKING:
    from torch import Tensor

    from mla_kernels.layer import Layer


class NotMeasured(Exception):  # noqa: N818
    """Ends a point with a status other than `ok`."""

    def __init__(self, status: Status, reason: str, **values: Any) -> None:
        super().__init__(reason)
        self.status: Status = status
        self.values = values


@dataclass(frozen=True, slots=True)
class Prepared:
    """A case's inputs on the device, and what its outputs must be."""

    case: Case
    inputs: Mapping[str, "Tensor"]
    expected: Expected


@dataclass(frozen=True, slots=True)
class Bound:
    """A kernel bound to a case's inputs and outputs; in a `layer` of which it is the core the launch is all of that."""

    kernel: Kernel
    launch: Launch
    outputs: Mapping[str, "Tensor"]
    layer: "Layer | None" = None

    def poison(self) -> None:
        """Fill the outputs with NaN, and in a layer all that one part hands to another."""
        poison(*self._written())
        if self.layer:
            self.layer.fill_new_rows(math.nan)
            if own := getattr(self.layer.core, "outputs", ()):
                poison(*own)

    def require_poison(self) -> None:
        """Raise `NotMeasured` where `poison` did not take: what is checked is then not what the kernel writes."""
        if not all(map(is_poison, self._written())):
            raise NotMeasured("error", "its launch's `outputs` are copies: give the tensors that it writes, or views")

    @property
    def config(self) -> dict[str, Any]:
        """What the kernel says it chose, and on what inputs it was measured where those are not everyone's."""
        finite = {"unused_slots": "finite"} if self.kernel.reads_unused_slots else {}
        return launch_config(self.launch) | finite

    def fresh_outputs(self) -> "Sequence[Mapping[str, Tensor]]":
        """What the calls since the last `poison` wrote: more than one where each call has outputs of its own.

        Never none: where nothing was written, poison.
        """
        if self.layer:
            return [{"out": self.outputs[OUTPUT], **self.layer.new_rows()}]
        written = self._written()
        return [outputs for outputs in written if not is_poison(outputs)] or written[:1]

    def _written(self) -> "Sequence[Mapping[str, Tensor]]":
        # Some packages allocate what they return; their launch says what that was.
        own = getattr(self.launch, "outputs", ())
        if not isinstance(own, Sequence):
            raise TypeError("its launch's `outputs` are no sequence of mappings from out and lse to tensors")
        return own or (self.outputs,)
