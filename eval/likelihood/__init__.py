"""Log-likelihoods of pieces of text: `score.log_likelihoods` is the entry."""
