"""The same kinds of pages in Chinese, described and asked about in Chinese.

     幸福超市        一张幸福超市的小票，共2种商品，合计¥6.00。
    绿茶   ¥2.50     绿茶的单价是多少？    ¥2.50
    饼干   ¥3.50     合计是多少？          ¥6.00
    合计   ¥6.00     第二行商品是什么？    饼干

They need a font with Chinese, an optional dependency (see `kit.fonts`).
"""

# ruff: noqa: RUF002 -- Chinese punctuation is meant.

from onevision.synth.sample import Sample, Split, rng_for
from onevision.synth.worlds.pages.chinese import CHINESE
from onevision.synth.worlds.pages.documents import PAGES


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th Chinese page of a split.

    Raises:
        InputError: if no font with Chinese is installed.
    """
    rng = rng_for(split, "chinese_documents", index)
    return rng.choice(PAGES).make(rng, CHINESE)
