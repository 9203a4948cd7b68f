"""From records to what they say: comparison, verdict, views."""
