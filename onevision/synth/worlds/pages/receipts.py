"""Receipts: a shop, a date, goods with their prices, and what they add up to.

    Corner Cafe
  12 Mill Lane           Which shop is the receipt from?  Corner Cafe
- - - - - - - - -        How much does the tea cost?      2.50
Tea          2.50        What is the total?               6.00
Apple Pie    3.50
Total        6.00
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from onevision.synth.kit.questions import picture_sample
from onevision.synth.sample import Question, Sample, ask
from onevision.synth.worlds.pages.language import Language, fill, random_date, random_time
from onevision.synth.worlds.pages.sheet import Sheet, random_look

NOTES = (500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
TAX_PERCENTS = (5, 6, 7, 8, 9, 10, 13, 15, 19, 20)


@dataclass(frozen=True, kw_only=True)
class Good:
    """Something bought; the price of one is in cents."""

    name: str
    count: int
    price: int


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """All that is printed; amounts are written out, goods keep their numbers."""

    shop: str
    street: str
    fields: tuple[tuple[str, str], ...]
    goods: tuple[Good, ...]
    counted: bool
    currency: str
    tax_percent: int
    amounts: tuple[tuple[str, str], ...]
    thanks: str

    def money(self, cents: int) -> str:
        """Writes an amount as it is printed."""
        return f"{self.currency}{cents / 100:.2f}"


def make(rng: random.Random, language: Language) -> Sample:
    """Makes a receipt in a language."""
    receipt = _random_receipt(rng, language)
    caption, detail = _describe(receipt, language, rng)
    return picture_sample(
        rng, _lay_out(receipt, language, rng).picture(), caption=caption, detail=detail,
        asked=_questions(receipt, language, rng),
    )  # fmt: skip


def _random_receipt(rng: random.Random, language: Language) -> Receipt:
    words, phrases = language.words, language.receipt
    counted = rng.random() < 0.5
    goods = tuple(
        Good(name=name, count=rng.choice((1, 1, 2, 3, 4, 5)) if counted else 1,
             price=rng.randrange(60, 2500, 5))
        for name in rng.sample(words.goods, rng.randint(2, 6))
    )  # fmt: skip
    fields = [
        (phrases.date, random_date(rng, words)), (phrases.time, random_time(rng)),
        (phrases.number, str(rng.randint(1000, 99999))),
        (phrases.cashier, rng.choice(words.people)),
    ]  # fmt: skip
    chosen = sorted(rng.sample(range(4), rng.randint(2, 4)))
    currency, percent = rng.choice(words.currencies), 0
    subtotal = sum(good.count * good.price for good in goods)
    amounts: list[tuple[str, int]] = []
    if rng.random() < 0.55:
        percent = rng.choice(TAX_PERCENTS)
        amounts = [(phrases.subtotal, subtotal), (phrases.tax, round(subtotal * percent / 100))]
    total = sum(cents for _, cents in amounts) or subtotal
    amounts.append((phrases.total, total))
    if rng.random() < 0.5:
        cash = rng.choice([note for note in NOTES if note >= total][:2])
        amounts += [(phrases.cash, cash), (phrases.change, cash - total)]
    return Receipt(
        shop=rng.choice(words.shops),
        street=rng.choice(words.streets),
        fields=tuple(fields[n] for n in chosen),
        goods=goods,
        counted=counted,
        currency=currency,
        tax_percent=percent,
        amounts=tuple((label, f"{currency}{cents / 100:.2f}") for label, cents in amounts),
        thanks=rng.choice(phrases.thanks),
    )


def _lay_out(receipt: Receipt, language: Language, rng: random.Random) -> Sheet:
    look = random_look(rng, language.face)
    normal, bold = look.letters(), look.letters(bold=True)
    rows = _rows(receipt, language)
    widths = [max(bold.width(row[k]) for row in rows) + 12 for k in range(len(rows[0]))]
    pairs = max(bold.width(f"{a} {b}") for a, b in (*receipt.fields, *receipt.amounts)) + 30
    heading = look.letters(larger=4, bold=True)
    inner = max(sum(widths), pairs, heading.width(receipt.shop), rng.randint(150, 220))
    sheet = Sheet(look, inner + 2 * look.margin)
    sheet.line(receipt.shop, letters=heading, side="middle", accent=True)
    sheet.line(receipt.street, letters=normal, side="middle")
    sheet.rule(dashed=True)
    for label, value in receipt.fields:
        sheet.pair(label, value, letters=normal)
    sheet.rule(dashed=True)
    for n, (name, *cells) in enumerate(rows):
        letters = bold if receipt.counted and n == 0 else normal
        sheet.write(name, letters=letters)
        for k, cell in enumerate(cells):
            end = sheet.right - sum(widths[k + 2 :])
            sheet.write_at(end, cell, letters=letters, anchor="rt")
        sheet.y += letters.line_height
    sheet.rule(dashed=True)
    for label, value in receipt.amounts:
        letters = bold if label == language.receipt.total else normal
        sheet.pair(_printed_label(label, receipt, language), value, letters=letters)
    sheet.y += 8
    sheet.line(receipt.thanks, letters=normal, side="middle")
    return sheet


def _printed_label(label: str, receipt: Receipt, language: Language) -> str:
    """Returns an amount's label as it is printed: the tax with its rate."""
    return f"{label} {receipt.tax_percent}%" if label == language.receipt.tax else label


def _rows(receipt: Receipt, language: Language) -> list[tuple[str, ...]]:
    """Returns the lines of goods: name and price, or a header and four columns."""
    money = receipt.money
    if not receipt.counted:
        return [(good.name, money(good.price)) for good in receipt.goods]
    rows: list[tuple[str, ...]] = [language.receipt.columns]
    for good in receipt.goods:
        amount = money(good.count * good.price)
        rows.append((good.name, str(good.count), money(good.price), amount))
    return rows


def _describe(receipt: Receipt, language: Language, rng: random.Random) -> tuple[str, str]:
    phrases, total = language.receipt, dict(receipt.amounts)[language.receipt.total]
    values = {"shop": receipt.shop, "total": total, "count": str(len(receipt.goods))}
    caption = rng.choice(fill(phrases.caption, values))
    template = phrases.good_counted if receipt.counted else phrases.good
    goods = language.join(
        template.format(
            name=good.name, count=good.count, price=receipt.money(good.price),
            sum=receipt.money(good.count * good.price),
        )
        for good in receipt.goods
    )  # fmt: skip
    detail = phrases.detail.format(
        street=receipt.street,
        fields=language.fields(receipt.fields),
        goods=goods,
        amounts=language.fields(
            (_printed_label(a, receipt, language), b) for a, b in receipt.amounts
        ),
        thanks=receipt.thanks,
    )
    return caption, f"{caption}{language.gap}{detail}"


def _questions(receipt: Receipt, language: Language, rng: random.Random) -> Iterator[Question]:
    phrases = language.receipt
    for label, value in receipt.fields:
        yield ask(rng, "receipt_field", fill(phrases.ask_field, {"label": label.lower()}), value)
    for label, value in receipt.amounts:
        words = fill(phrases.ask_amount, {"label": label.lower()})
        yield ask(rng, "receipt_amount", words, value)
    yield ask(rng, "receipt_total", phrases.ask_total, dict(receipt.amounts)[phrases.total])
    yield ask(rng, "receipt_shop", phrases.ask_shop, receipt.shop)
    yield ask(rng, "receipt_street", phrases.ask_street, receipt.street)
    if receipt.tax_percent:
        yield ask(rng, "receipt_tax_rate", phrases.ask_tax_rate, f"{receipt.tax_percent}%")
    yield ask(rng, "receipt_goods", phrases.ask_goods, str(len(receipt.goods)))
    n = rng.randrange(len(receipt.goods))
    words = fill(phrases.ask_nth, {"nth": language.ordinals[n]})
    yield ask(rng, "receipt_nth", words, receipt.goods[n].name)
    yield from _goods_questions(receipt, language, rng)


def _goods_questions(
    receipt: Receipt, language: Language, rng: random.Random
) -> Iterator[Question]:
    phrases = language.receipt
    prices = [good.price for good in receipt.goods]
    if prices.count(max(prices)) == 1:
        dearest = receipt.goods[prices.index(max(prices))].name
        yield ask(rng, "receipt_dearest", phrases.ask_dearest, dearest)
    for good in rng.sample(receipt.goods, 2):
        values = {"name": good.name}
        price = receipt.money(good.price)
        asked = phrases.ask_unit if receipt.counted else phrases.ask_price
        yield ask(rng, "receipt_price", fill(asked, values), price)
        if receipt.counted:
            yield ask(rng, "receipt_count", fill(phrases.ask_count, values), str(good.count))
            amount = receipt.money(good.count * good.price)
            yield ask(rng, "receipt_sum", fill(phrases.ask_sum, values), amount)
