"""Tests against servers of object stores on this machine, by their real protocols."""
