"""Three claims of the paper in miniature: training runs as values, and what they show together."""
