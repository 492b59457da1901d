"""Kernels of other packages, one file each, bound as the suite's own; the table is `PEERS` in `table.py`."""
