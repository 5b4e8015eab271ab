import numpy as np
import pytest

from onevision.data.entries import DatasetEntry, count_chosen, expand_braces, read_datasets
from onevision.data.mixture import Mixture, OpenDataset, choose_rows, open_mixture
from onevision.data.order import Order, choose_epoch_rows, count_rows_per_epoch
from onevision.data.sources import SequenceSource
from onevision.errors import DataError


@pytest.mark.parametrize(
    ("strategy", "rows"),
    [
        ("all", list(range(11))),
        ("first:3", [0, 1, 2]),
        ("first:10%", [0, 1]),  # rounded up, as in the reference
        ("first:99", list(range(11))),
        ("end:2", [9, 10]),
        ("end:0", []),
        ("end:50%", [5, 6, 7, 8, 9, 10]),
    ],
)
def test_strategies(strategy, rows):
    dataset = DatasetEntry(name="a", sampling_strategy=strategy)
    assert choose_rows(dataset, 11, seed=0).tolist() == rows


def test_random_rows_depend_on_the_seed_and_the_name_alone():
    dataset = DatasetEntry(name="a", sampling_strategy="random:5")
    chosen = choose_rows(dataset, 1000, seed=0).tolist()
    assert len(set(chosen)) == 5
    assert choose_rows(dataset, 1000, seed=0).tolist() == chosen
    assert choose_rows(dataset, 1000, seed=1).tolist() != chosen


@pytest.mark.parametrize("strategy", ("some", "first", "first:-1", "first:x%", "last:3"))
def test_an_unknown_strategy_is_an_error(strategy):
    with pytest.raises(DataError, match="expected all, first:N, end:N or random:N"):
        count_chosen(strategy, 10, name="a")


def test_brace_lists_expand():
    assert expand_braces("data/x{1, 2,b}.json") == ["data/x1.json", "data/x2.json", "data/xb.json"]
    assert [d.name for d in read_datasets_of("d/{a,b}.json")] == ["a.json", "b.json"]


def read_datasets_of(text):
    from pathlib import Path

    return read_datasets(Path(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("datasets: []", "no list `datasets:`"),
        ("- 1", "no list `datasets:`"),
        ("datasets: [1]", r"datasets\[0\]: it is int"),
        ("datasets: [{json_paht: a.json}]", "no key 'json_paht'; did you mean 'json_path'"),
        ("datasets: [{sampling_strategy: all}]", "neither json_path nor source nor name"),
        ("datasets: [{json_path: a.json, share: much}]", "share is 'much'; expected a number"),
        ("datasets: [{json_path: a.json, share: 1, rows: 2}]", "both `share` and `rows`"),
        ("datasets: [{json_path: a.json, sampling_strategy: half}]", "sampling_strategy is 'half'"),
        ("datasets: [{json_path: a.json, scenario: audio}]", "scenario is 'audio'"),
        ("datasets: [{json_path: none.json}]", "no such file"),
        ("datasets: [{source: a/b}]", "comes from a/b and has no json_path"),
        ("datasets: {", "not YAML"),
    ],
)
def test_a_wrong_mixture_is_refused(text, message, tmp_path):
    path = tmp_path / "mixture.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        open_mixture(path)


def test_a_mixture_opens(mixture_file):
    mixture = open_mixture(mixture_file)
    assert [(d.entry.name, len(d.rows)) for d in mixture.datasets] == [
        ("singles.json", 40),
        ("pairs.json", 10),
        ("videos.json", 6),
        ("texts.json", 20),
    ]
    assert len(mixture) == 76


def mixture_of(*sizes, **options):
    datasets = []
    for number, size in enumerate(sizes):
        entry = DatasetEntry(name=str(number), **{k: v[number] for k, v in options.items()})
        source = SequenceSource(str(number), [{}] * size)
        datasets.append(OpenDataset(entry=entry, source=source, rows=np.arange(size)))
    return Mixture(name="m", datasets=tuple(datasets), seed=0)


def test_an_epoch_shows_every_row_once():
    order = Order(mixture_of(30, 50), seed=1, epoch=0)
    shown = sorted(zip(order.datasets.tolist(), order.rows.tolist(), strict=True))
    assert shown == [(0, n) for n in range(30)] + [(1, n) for n in range(50)]


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        one = Order(mixture_of(30, 50), seed=seed, epoch=epoch)
        return one.datasets.tolist(), one.rows.tolist()

    np.random.seed(5)  # the global stream plays no part
    again = order(1, 0)
    np.random.seed(6)
    assert order(1, 0) == again
    assert order(2, 0) != again
    assert order(1, 1) != again


def test_rows_and_shares_say_how_much_is_seen():
    assert count_rows_per_epoch(mixture_of(10, 90, share=(1.0, 3.0))) == [25, 75]
    assert count_rows_per_epoch(mixture_of(10, 90, rows=(25, None))) == [25, 90]
    assert count_rows_per_epoch(mixture_of(0, 90, rows=(25, None))) == [0, 90]


def test_no_row_returns_before_all_were_seen():
    (dataset,) = mixture_of(10, rows=(4,)).datasets
    walked = np.concatenate([choose_epoch_rows(dataset, 4, seed=0, epoch=e) for e in range(5)])
    assert sorted(walked[:10]) == sorted(walked[10:]) == list(range(10))
    assert walked[:10].tolist() != walked[10:].tolist()


def test_rows_of_a_block_stay_near_each_other():
    (dataset,) = mixture_of(400).datasets
    dataset.source.block_starts = tuple(range(0, 400, 10))
    rows = choose_epoch_rows(dataset, 400, seed=0, epoch=0)
    assert sorted(rows) == list(range(400))
    for begin in range(0, 400, 40):  # four blocks at a time
        assert len({row // 10 for row in rows[begin : begin + 40].tolist()}) == 4
