"""Context parallelism: some processes divide every sequence, as in DeepSpeed-Ulysses (2309.14509).

rules      whether a run can be divided so, before anything loads
rows       what each process of a group has read -> the rows of all, each with its share of crops
division   plain arithmetic: who has which positions, crops and visual tokens
attention  shares of a sequence <-> shares of the heads, by all-to-all
learner    a process's share of the sequence -> its part of the loss
"""
