"""Tests of quantisation: formats, calibration, and the walk from a model to an answer."""
