"""The toolkit of all worlds: canvas, type, words, questions."""
