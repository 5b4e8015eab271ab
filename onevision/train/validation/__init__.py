"""Samples that are held out of a mixture, their loss during a run, and the best weights."""
