"""Records -> those that pass gates, each of which marks what it finds by name."""
