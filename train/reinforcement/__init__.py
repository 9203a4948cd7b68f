"""What online reinforcement learning needs beside its trainer: ledger, watch on held-out prompts, digest."""
