"""Learning from preferences: DPO, its rounds and their critic."""
