"""Whether this machine and this installation can measure: the sections of `mlabench doctor`, one file each."""
