"""Every point as JSON, in the versioned schema of `Comparison.to_json`."""

import json

from mlabench.errors import UsageError
from mlabench.verdict.comparison import SCHEMA_VERSION, Comparison
from mlabench.verdict.outputs.rows import refused


def render(result: Comparison) -> str:
    """The text of the JSON file."""
    return json.dumps(result.to_json(), indent=2, allow_nan=False) + "\n"


def refusal(error: UsageError) -> str:
    """The file of a gate that judged nothing: it has no points, and an `error`."""
    plain = {
        "schema_version": SCHEMA_VERSION,
        "command": "gate",
        "exit_code": error.exit_code.value,
        "outcome": error.exit_code.name.lower(),
        "summary": refused(error),
        "error": str(error),
        "points": [],
    }
    return json.dumps(plain, indent=2) + "\n"
