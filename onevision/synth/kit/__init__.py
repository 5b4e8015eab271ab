"""The toolkit of all worlds: shapes, scenes, canvas, fonts, text, words, questions."""
