"""One model on several devices, a process for each (tensor parallelism)."""
