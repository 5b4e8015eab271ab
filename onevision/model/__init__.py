"""ModelInputs -> logits: the part to read in one sitting."""
