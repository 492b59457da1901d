"""What a run shows: figures, computed sentences and one self-contained page, all read from the store."""
