"""Tasks composed of others: figures, screens, pictures and videos together; and their parts."""
