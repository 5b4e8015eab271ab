"""Checkpoint directories of every known layout <-> our network, config and tokenizer.

The only room that knows how other projects name their files, keys and tensors.
"""
