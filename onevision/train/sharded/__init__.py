"""A sharded model, from its first number to its checkpoint, without a process that holds all of it.

hollow    the network of a run, whose large tensors have no memory yet
shards    its division by FSDP2; layers that tensor/ has divided are divided again
places    which rows and columns of a tensor a process holds
fill      after it is divided: each process's part, from files, from the seed, or from adapters
export    the trained tensors, whole, one at a time, for the first process to write
"""
