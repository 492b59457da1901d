"""What others say of MLA, each claim put to the test by the suite's own arithmetic, or by a run."""
