"""The forms in which others write training records, each read into the same turns."""
