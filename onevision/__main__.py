"""`python -m onevision` is the command line."""

from onevision.cli import main

main()
