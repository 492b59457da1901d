"""Models whose weights leave no room on the GPUs that a prediction splits their heads over."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from mlabench.errors import UsageError
from mlabench.predict.capacity import Setup, least_tp
from mlabench.predict.hardware import Gpu
from mlabench.predict.rows import Point
from mlabench.predict.weights import weights_of


@dataclass(frozen=True, slots=True)
class TooLarge:
    """A model that is too large for one GPU of `tp`, beside a plan's reserve; and the least `tp` for which it is not.

    `least_tp` is None where no number of GPUs that splits the heads is enough.
    """

    model: str
    gpu: str
    tp: int
    weights_bytes_per_gpu: float
    memory_bytes: float
    least_tp: int | None


def too_large(points: Sequence[Point], gpus: Sequence[Gpu]) -> tuple[TooLarge, ...]:
    """The models, GPUs and `tp` of the points that do not go together, each once.

    Left out are models and GPUs of which the weights or the memory are not known.
    """
    one_each = {(point.model.name, point.tp, point.dp, gpu.name): (point, gpu) for point in points for gpu in gpus}
    setups = []
    for point, gpu in one_each.values():
        # Of others nobody says how many bytes the weights are.
        with suppress(UsageError):
            setups.append(Setup(point, gpu, weights_of(point.model)))
    return too_large_of(setups)


def too_large_of(setups: Sequence[Setup]) -> tuple[TooLarge, ...]:
    """The models, GPUs and `tp` of these setups that do not go together, each once."""
    return tuple(dict.fromkeys(each for each in map(_too_large, setups) if each))


def _too_large(setup: Setup) -> TooLarge | None:
    point, gpu = setup.point, setup.gpu
    name, memory_bytes = point.model.name, gpu.memory_bytes
    if name is None or memory_bytes is None:
        return None
    try:
        if setup.free_bytes_per_gpu > 0:
            return None
        held = setup.weights.bytes_per_gpu(point.tp, point.dp)
        return TooLarge(name, gpu.name, point.tp, held, memory_bytes, least_tp(setup))
    except UsageError:
        # Nobody says how many bytes attention's share of the weights is.
        return None
