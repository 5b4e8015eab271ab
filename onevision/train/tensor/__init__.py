"""Tensor parallelism: some processes divide each layer of the language model, by DTensor's plans.

rules      whether a run can be divided so, before anything loads
mesh       all processes as a table, data x tensor
plan       which axis of which weight is divided, and what goes in and out of each layer
learner    crops spread over a group, each layer computed together -> the loss, in every process
gradients  what remains to be summed after the backward pass
"""
