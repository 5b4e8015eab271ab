"""What a run keeps in host memory in place of the device's."""
