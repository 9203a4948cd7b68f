"""What a model writes: replies in batches, hidden states, a local judge."""
