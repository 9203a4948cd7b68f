"""From corpora to packed rows: how much of each, in which order, in which row, on which rank."""
