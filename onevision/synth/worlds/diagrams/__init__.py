"""Diagrams of geometry and arithmetic."""
