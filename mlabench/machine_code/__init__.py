"""What the kernels compile to, told without a GPU: registers, spills, instructions, occupancy; and what changed."""
