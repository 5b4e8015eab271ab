"""What a stage learns by: objectives, each a file, and the table of them."""
