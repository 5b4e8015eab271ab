"""ModelInputs -> answers: the engine that prefills prompts, decodes and samples."""
