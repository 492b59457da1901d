"""How a case is measured: inputs, kernels, check, timing, isolation, and the sweep over all points."""
