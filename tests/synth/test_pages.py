import random
import re

import pytest

from onevision.errors import InputError
from onevision.synth.kit.fonts import CJK_FONT_VARIABLE, chinese_font_file
from onevision.synth.kit.shapes import COLOURS
from onevision.synth.kit.text import Letters
from onevision.synth.worlds.charts import axes, bars, lines, pies, scatters
from onevision.synth.worlds.charts.topics import INKS
from onevision.synth.worlds.diagrams import clocks, coordinates, fractions, triangles
from onevision.synth.worlds.diagrams.figure import opening, towards
from onevision.synth.worlds.pages import boards, documents
from onevision.synth.worlds.pages.english import ENGLISH
from onevision.synth.worlds.tables import grid, matrices, records
from tests.synth.conftest import outlines

NEEDS_CHINESE = pytest.mark.skipif(chinese_font_file() is None, reason="no font with Chinese")
FAMILIES = (
    *("documents", "charts", "tables", "geometry"),
    pytest.param("chinese_documents", marks=NEEDS_CHINESE),
)


def picture(sample):
    (image,) = sample.media
    return image.source


@pytest.mark.parametrize("family", FAMILIES)
def test_no_answer_rules_a_family(family):
    answers = {}
    for outline in outlines(family):
        for question in outline.sample.questions:
            answers.setdefault(question.family, []).append(question.answer)
    for name, given in answers.items():
        if len(given) >= 30:
            most = max(given.count(answer) for answer in set(given))
            assert most <= 0.8 * len(given), name


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_are_of_moderate_size(family):
    sizes = [size for outline in outlines(family) for size in outline.sizes]
    assert max(max(size) for size in sizes) <= 620
    assert min(min(size) for size in sizes) >= 70


def test_bars_are_as_high_as_their_values():
    rng = random.Random(1)
    for _ in range(20):
        chart = bars.random_bars(rng)
        plot, image = axes.layout(chart.data, chart.look), bars.draw(chart)
        for s, series in enumerate(chart.data.series):
            for n in range(len(chart.data.categories)):
                (left, top), (right, bottom) = bars.bar_corners(chart, plot, category=n, series=s)
                colour = chart.colours[n] if len(chart.data.series) == 1 else series.colour
                middle = (int((left + right) / 2), int((top + bottom) / 2))
                assert image.getpixel(middle) == INKS[colour]
                end = (int(right) + 2, middle[1]) if chart.look.horizontal else (
                    middle[0], int(top) - 2)  # fmt: skip
                assert image.getpixel(end) != INKS[colour]


def test_line_charts_mark_their_values():
    rng = random.Random(2)
    for _ in range(20):
        chart = lines.random_lines(rng)
        plot, image = axes.layout(chart.data, chart.look), lines.draw(chart)
        for series in chart.data.series:
            for n, value in enumerate(series.values):
                x, y = plot.spot(n + 0.5, value)
                assert image.getpixel((int(x), int(y))) == INKS[series.colour]


def test_slices_have_their_colours():
    rng = random.Random(3)
    for _ in range(30):
        pie = pies.random_pie(rng)
        assert sum(pie.percents) == 100
        places, image = pies.layout(pie), pies.draw(pie)
        for colour, angle in zip(pie.colours, pies.middles(pie), strict=True):
            x, y = towards((places.x, places.y), angle, 0.92 * pie.radius)
            assert image.getpixel((int(x), int(y))) == INKS[colour]


def test_dots_lie_where_their_numbers_say():
    rng = random.Random(4)
    for _ in range(20):
        chart = scatters.random_scatter(rng)
        image = scatters.draw(chart)
        for dot in chart.dots:
            x, y = chart.spot(dot)
            assert image.getpixel((int(x), int(y))) == INKS[dot.colour]


def test_every_cell_of_a_table_is_written():
    rng = random.Random(5)
    for _ in range(10):
        table = records.random_records(rng).table
        look = grid.random_look(rng, num_rows=len(table.rows), num_columns=len(table.headers))
        places, image = grid.layout(table, look), grid.draw(table, look)
        for row in range(len(table.rows) + 1):
            top = places.top + row * look.row_height
            for left, right in zip(places.edges, places.edges[1:], strict=False):
                cell = image.crop((left + 2, top + 2, right - 2, top + look.row_height - 2))
                assert len(cell.getcolors(5000)) > 3
        assert image.size == (places.width, places.height)


def test_sums_of_a_table_are_right():
    for seed in range(50):
        rng = random.Random(seed)
        matrix = matrices.random_matrix(rng)
        for question in matrices.questions(matrix, rng):
            if question.family == "matrix_row_sum":
                name = next(n for n in matrix.names if re.search(rf"\b{n}\b", question.question))
                cells = matrix.table.rows[matrix.names.index(name)][1:]
                assert question.answer == str(sum(map(int, cells)))


def test_points_of_the_plane_have_their_colours():
    for seed in range(30):
        sample = coordinates.make(random.Random(seed))
        image = picture(sample)
        reach = int(re.search(r"to (\d+)\.", sample.detail).group(1))
        cell = image.width / (2 * (reach + 1))
        for name, x, y in re.findall(r"([A-Z]) \((-?\d+), (-?\d+)\)", sample.caption):
            colour = re.search(rf"\b{name} is (\w+)", sample.detail).group(1)
            place = (image.width / 2 + int(x) * cell, image.height / 2 - int(y) * cell)
            assert image.getpixel((int(place[0]), int(place[1]))) == COLOURS[colour]


def test_the_coloured_part_of_a_disc_is_its_fraction():
    checked = 0
    for seed in range(80):
        sample = fractions.make(random.Random(seed))
        answers = {question.family: question.answer for question in sample.questions}
        image = picture(sample)
        on_white = image.getpixel((2, 2)) == (255, 255, 255)
        if on_white or "fraction_coloured" not in answers or "A disc" not in sample.caption:
            continue
        colour = COLOURS[re.search(r"them (\w+)\.", sample.caption).group(1)]
        counts = {tint: count for count, tint in image.getcolors(100_000)}
        share = counts[colour] / (counts[colour] + counts[255, 255, 255])
        coloured, parts = answers["fraction_coloured"].split("/")
        assert share == pytest.approx(int(coloured) / int(parts), abs=0.03)
        checked += 1
    assert checked > 10


def test_angles_of_a_triangle_make_half_a_turn():
    checked = 0
    for seed in range(60):
        sample = triangles.make(random.Random(seed))
        answers = {question.family: question.answer for question in sample.questions}
        if {"triangle_angle", "triangle_sum"} <= set(answers):
            assert int(answers["triangle_angle"]) + int(answers["triangle_sum"]) == 180
            checked += 1
    assert checked > 5


def test_an_opening_is_measured_on_its_inner_side():
    start, sweep = opening((0, 0), (0, 1), (1, 0))
    assert (round(start), round(sweep)) == (0, 90)


def test_a_clock_shows_hours_from_one_to_twelve():
    assert [clocks.clock_time(m) for m in (0, 65, 12 * 60 - 1, -10)] == [
        "12:00",
        "1:05",
        "11:59",
        "11:50",
    ]


def test_notes_are_in_the_cell_the_detail_names():
    for seed in range(20):
        sample = boards.make(random.Random(seed), ENGLISH)
        image = picture(sample)
        said = re.findall(r"at the ([a-z ]+) is (\w+) and says", sample.detail)
        assert said
        for place, colour in said:
            row, column = divmod(ENGLISH.places.index(place), 3)
            x, y = (column + 0.5) * image.width / 3, (row + 0.5) * image.height / 3
            cell = image.crop((int(x - 20), int(y - 12), int(x + 20), int(y + 12)))
            assert boards.LIGHT[colour] in {tint for _, tint in cell.getcolors(5000)}


def test_letters_are_as_wide_as_their_text():
    letters = Letters(size=14)
    assert letters.width("Total 12.50") == pytest.approx(
        letters.width("Total") + letters.width(" ") + letters.width("12.50"), abs=2
    )
    assert Letters(size=14, bold=True).width("Total") > letters.width("Total")


def test_a_missing_chinese_font_is_an_error_that_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv(CJK_FONT_VARIABLE, str(tmp_path / "none.ttf"))
    with pytest.raises(InputError, match=f"pip install .*{CJK_FONT_VARIABLE}"):
        Letters(size=97, face="chinese").width("中")


def test_english_pages_need_no_chinese_font(monkeypatch, tmp_path):
    monkeypatch.setenv(CJK_FONT_VARIABLE, str(tmp_path / "none.ttf"))
    assert documents.make("heldout", 0).questions
