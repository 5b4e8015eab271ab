"""What screens are made of: words, widgets, layouts, and questions about them."""
