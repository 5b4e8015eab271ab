"""What a run writes for people: metrics, curves, model card."""
