"""A kernel's trial: small ragged batches of odd lengths, which one that is not the suite's must get right to be timed.

Even lengths, and requests of one length, hide what a kernel does at the end of a page or of a request: among thousands
of tokens one too many hardly shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from mlabench.cases.case import Case
from mlabench.measure.isolation import Worker, WorkerDied
from mlabench.measure.kernels import Kernel, is_own
from mlabench.measure.runner import Runner
from mlabench.measure.sides import AskedSide
from mlabench.records.record import Status

LENGTHS = (193, 1, 33)
"""Cached tokens of each request."""

EMPTY = (193, 0, 1, 33)
"""The same with a request that has none: its output is 0, its log-sum-exp minus infinity."""

MAX_PAGE_SIZE = 256
"""Of a trial, which is to be small."""

FAULTS = ("incorrect", "error")
"""What a trial may not end in; a kernel that does not take such a batch, or is not there, has no fault."""

PEER_FAULTS = ("incorrect",)
"""The same for peers, which say by errors of their own what they do not take."""


@dataclass(frozen=True, slots=True)
class Trial(Case):
    """A core with requests of these lengths, where a case has such as follow from their mean.

    In prefill all tokens of a request are new where they are in the case that it is made of, and else about half.
    """

    lengths: tuple[int, ...] = ()

    @property
    def kv_lens(self) -> tuple[int, ...]:
        """Cached tokens of each request."""
        return self.lengths

    @property
    def q_lens(self) -> tuple[int, ...]:
        """New tokens of each request; in prefill an empty one has none."""
        if self.phase == "decode":
            return (self.q_len,) * self.batch
        return tuple(length if self.q_len == self.kv_len else (length + 1) // 2 for length in self.lengths)


@dataclass(frozen=True, slots=True)
class Fault:
    """What a trial ended in, told with its lengths."""

    status: Status
    reason: str


def make_trials(case: Case, kernel: Kernel) -> tuple[Trial, ...]:
    """The trials that come before a case: of its core's variant, phase, page size and dtype.

    A peer has none with an empty request, which serving does not give it.
    """
    core = case.core
    same = {each.name: getattr(core, each.name) for each in fields(Case)}
    same |= {"kv_len_dist": "ragged", "page_size": min(core.page_size, MAX_PAGE_SIZE), "models": ()}
    whole = core.q_len == core.kv_len
    trials = []
    for asked in (LENGTHS,) if kernel.peer else (LENGTHS, EMPTY):
        least = core.q_len if core.phase == "decode" else 1
        lengths = tuple(max(length, least) if length else 0 for length in asked)
        kv_len = max(lengths)
        q_len = core.q_len if core.phase == "decode" else kv_len if whole else (kv_len + 1) // 2
        trials.append(Trial(**same | {"batch": len(lengths), "kv_len": kv_len, "q_len": q_len}, lengths=lengths))
    return tuple(trials)


@dataclass(frozen=True, slots=True)
class Tryout:
    """Tries what a worker is to time, each side once for every kind of case. The suite's own kernels need no trial."""

    worker: Worker
    timeout_s: float
    _found: dict[tuple[AskedSide, tuple[Trial, ...]], Fault | None] = field(default_factory=dict)

    def fault(self, case: Case, asked: AskedSide) -> Fault | None:
        """Why a side is not to be timed on cases of this kind; None where it is."""
        if is_own(asked.kernel):
            return None
        key = asked, make_trials(case, asked.kernel)
        if key not in self._found:
            self._found[key] = find_fault(self.worker, case, asked, self.timeout_s)
        return self._found[key]


def find_fault(worker: Worker, case: Case, asked: AskedSide, timeout_s: float) -> Fault | None:
    """What is wrong with a side on the trials before a case; None where nothing is. A worker may die of it."""
    request = {"do": "trial", "case": case.to_fields(), "models": case.models, "side": asked.to_json()}
    for place, trial in enumerate(make_trials(case, asked.kernel)):
        try:
            answer = worker.ask({**request, "place": place}, timeout_s)
        except WorkerDied as death:
            answer = {"status": "error", "reason": str(death)}
        if answer["status"] in (PEER_FAULTS if asked.kernel.peer else FAULTS):
            lengths = ", ".join(map(str, trial.lengths))
            return Fault(answer["status"], f"not timed: on a small ragged batch (kv_lens {lengths}) {answer['reason']}")
    return None


def attempt(runner: Runner, trial: Trial, asked: AskedSide) -> Mapping[str, str]:
    """The status and reason of a side on a trial: bound, called and checked, without a time."""
    try:
        runner.require(asked.kernel)
        with asked.imports():
            asked.source_file()
            runner.bind(asked.kernel, runner.prepare(trial))
    except Exception as error:
        found = runner.outcome(error)
        return {"status": found["status"], "reason": found["reason"]}
    return {"status": "ok", "reason": ""}
