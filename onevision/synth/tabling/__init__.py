"""The parts of the table family: the drawn grid, and one file for each kind of table."""
