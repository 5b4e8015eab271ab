"""`onevision curate`: data made by models."""
