"""The parts of the geometry family: one file for each kind of diagram, each with `make(rng)`."""
