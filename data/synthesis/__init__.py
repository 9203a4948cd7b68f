"""Rows made of other rows: by templates, by contrast, by a model, by choice among replies."""
