"""Claims of the paper, tried in miniature: runs as values, and what they say together."""
