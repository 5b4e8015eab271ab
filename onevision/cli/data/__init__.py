"""`onevision data`: inspect training data before training."""
