"""Text and photographs -> pictures of pages, with the text as ground truth."""
