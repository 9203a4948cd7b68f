"""The pages that people read: the report of a run and of its data."""
