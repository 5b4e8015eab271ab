"""Answers -> scores, by the benchmarks' own rules, quirks included. Pure functions."""
