"""Probes: how accuracy changes as the input leaves what a model was trained on."""
