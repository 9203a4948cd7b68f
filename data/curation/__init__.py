"""How steps run over a corpus of any size: parts on disk, batches of rows, passes, workers."""
