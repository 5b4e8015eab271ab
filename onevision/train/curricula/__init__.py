"""Stages by who made them up: the paper, OneVision-1.5, this project. train/stages.py lists all."""
