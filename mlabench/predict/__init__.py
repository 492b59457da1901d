"""What attention costs, from arithmetic alone: floors under published ceilings, and where variants cross over."""
