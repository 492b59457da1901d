"""What came out: one record a line in a run directory, and the columns derived from them."""
