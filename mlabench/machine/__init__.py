"""On what a run was measured: the live device, its published and measured ceilings, and its fingerprint."""
