"""A sharded model, from its first number to its checkpoint, without a process that holds all of it.

hollow    the network of a run, whose large tensors have no memory yet
fill      after it is divided: each process's rows, from files, from the seed, or from adapters
export    the trained tensors, whole, one at a time, for the first process to write
"""
