"""Several pictures: pairs, differences, sequences."""
