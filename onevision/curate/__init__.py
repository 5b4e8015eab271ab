"""Data made by models: instructions, captions and documents, and what of them is kept."""
