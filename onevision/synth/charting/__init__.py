"""The parts of the chart family: topics and data, axes, and one file for each kind of chart."""
