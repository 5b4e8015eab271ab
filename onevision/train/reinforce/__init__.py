"""Learning from rewards: GRPO on a model's own answers."""
