"""What the `vocab` stage is made of: which words become tokens, how the tokenizer and the embeddings grow, and what
was gained."""
