"""Words, numbers and letters to be read."""
