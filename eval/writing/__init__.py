"""What comes beside writing: hidden states, nearest examples, a local judge."""
