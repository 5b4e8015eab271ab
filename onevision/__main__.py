"""`python -m onevision`: the command line, without the console script."""

from onevision.cli import main

main()
