"""A network and calibration data -> the same network with smaller weights, and what that costs."""
