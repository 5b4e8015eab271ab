"""A user's data and any model -> a model that has learned from them, in one command."""
