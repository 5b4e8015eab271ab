"""English pages: receipts, forms, letters, notice boards and posters.

 Corner Cafe         "A receipt from Corner Cafe with 2 items; the total is 6.00."
Tea        2.50      What is the price of one Tea?    2.50
Apple Pie  3.50      What is the total?               6.00
Total      6.00      Which item is listed second?     Apple Pie
"""

from onevision.synth.sample import Sample, Split, rng_for
from onevision.synth.worlds.pages import boards, forms, letters, posters, receipts
from onevision.synth.worlds.pages.english import ENGLISH

PAGES = (receipts, receipts, forms, letters, letters, boards, posters)


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th English page of a split."""
    rng = rng_for(split, "documents", index)
    return rng.choice(PAGES).make(rng, ENGLISH)
