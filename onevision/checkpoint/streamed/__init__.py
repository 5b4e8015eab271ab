"""Safetensors files that are written tensor by tensor, so that no process holds all of them."""
