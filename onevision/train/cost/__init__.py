"""What a stage costs: operations, memory, hours."""
