"""Adapters: low-rank updates and learnt prompts on frozen weights; attached, continued, merged, never silently stacked.

`rules` says what is allowed (no torch), `prepare` gives a stage the model that it trains, `attach` puts adapters on
it, `prompted` is a model with a learnt prompt, `merging` writes adapters into whole weights.
"""
