"""Whether a run got worse than its baseline: its points matched, judged and summed up to an exit code."""
