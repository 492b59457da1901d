"""Every point as JSON, in the versioned schema of `Comparison.to_json`."""

import json

from mlabench.verdict.comparison import Comparison


def render(result: Comparison) -> str:
    """The text of the JSON file."""
    return json.dumps(result.to_json(), indent=2, allow_nan=False) + "\n"
