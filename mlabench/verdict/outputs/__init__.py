"""What a comparison can be written as, one file a format."""

from collections.abc import Callable, Mapping

from mlabench.errors import UsageError
from mlabench.verdict.comparison import Comparison
from mlabench.verdict.gate import GateResult
from mlabench.verdict.outputs import github, json, junit, markdown

FORMATS: Mapping[str, Callable[[Comparison], str]] = {
    "json": json.render,
    "markdown": markdown.render,
}
"""The forms of any comparison, by the name of the option that asks for one."""

GATE_FORMATS: Mapping[str, Callable[[GateResult], str]] = {
    **FORMATS,
    "junit": junit.render,
    "github": github.render,
}
"""The forms of a judged one."""

GATE_REFUSALS: Mapping[str, Callable[[UsageError], str]] = {
    "json": json.refusal,
    "markdown": markdown.refusal,
    "junit": junit.refusal,
    "github": github.refusal,
}
"""The same of a gate that judged nothing."""
