"""What a bound peer is where its package allocates the tensors that it writes."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Outputs = Mapping[str, "Tensor"]


class OwnOutputs:
    """A bound peer that returns new tensors from each call: `run` gives them in the contract's shapes, as views.

    Nothing is copied into the caller's tensors, since a copy would be timed as the peer's. `outputs` tells the suite
    where to poison and to check instead.
    """

    def __init__(self, config: Mapping[str, int | str | float], run: Callable[[], Outputs]) -> None:
        import torch

        self.config = config
        # The package allocates in each call what it needs, and does not say how much.
        self.workspace_bytes: int | None = None
        self._run = run
        self._is_capturing = torch.cuda.is_current_stream_capturing if torch.cuda.is_available() else bool
        self._captured: list[Outputs] = []
        self._last: Outputs | None = None

    @property
    def outputs(self) -> tuple[Outputs, ...]:
        """What further calls write: the results of every captured call, which its replays write; else of the last."""
        return tuple(self._captured) or ((self._last,) if self._last else ())

    @property
    def latest(self) -> Outputs:
        """What the last call wrote, be it captured or not: what comes behind it in the same graph reads this."""
        if self._last is None:
            raise RuntimeError("nothing was called yet")
        return self._last

    def __call__(self) -> None:
        """Enqueue the work on the current stream."""
        # Let go first, so that the allocator hands out the same memory again, poison and all.
        self._last = None
        self._last = self._run()
        if self._is_capturing():
            self._captured.append(self._last)
