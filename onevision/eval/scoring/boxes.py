"""Answer + expected box -> how well it was found: RefCOCO's accuracy, and pointing.

Boxes are shares of the picture, as the prompts ask for them: boxes.py. Rows hold pixels, so the
task adds `image_width` and `image_height`; ScreenSpot's boxes are shares already.
"""

from collections.abc import Sequence

from onevision.boxes import Box, Point, find_boxes, find_marks, to_mark
from onevision.errors import DataError
from onevision.eval.scoring.fields import number, numbers
from onevision.eval.scoring.scorer import Item, Score, Scorer, averages, groups, mean

# A box counts as found from this IoU on; the others are reported beside it.
FOUND = 0.5
THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


def first_iou(answer: str, expected: Box) -> float:
    """Returns the IoU of the first box in an answer, 0 if it has none.

    Source: lmms-eval, `refcoco/utils_rec.py`, which reads the first list of four numbers too.
    """
    found = find_boxes(answer)
    return found[0].iou(expected) if found else 0.0


def points_into(answer: str, expected: Box) -> bool:
    """Whether the first point of an answer, or the middle of its first box, is in a box."""
    found = find_marks(answer)
    if not found:
        return False
    first = found[0]
    return expected.contains(first if isinstance(first, Point) else first.centre)


def finds_box(answer: str, expected: str, box: Box) -> bool:
    """Whether an answer is right where the expected one is a point in a box, or the box."""
    if any(isinstance(mark, Point) for mark in find_marks(expected)):
        return points_into(answer, box)
    return first_iou(answer, box) >= FOUND


def _score_refcoco(answer: str, item: Item) -> Score:
    x, y, width, height = numbers(item, "bbox", count=4)
    columns, rows = number(item, "image_width"), number(item, "image_height")
    edges = (x / columns, y / rows, (x + width) / columns, (y + height) / rows)
    expected = _to_box([min(1.0, max(0.0, edge)) for edge in edges])
    iou = first_iou(answer, expected)
    return {
        "score": float(iou >= FOUND),
        "iou": iou,
        "centre": float(points_into(answer, expected)),
        "has_box": float(bool(find_boxes(answer))),
    }


def _aggregate_refcoco(scores: Sequence[Score]) -> dict[str, float]:
    ious = [number(score, "iou") for score in scores]
    accuracy = mean(scores)
    return {
        "accuracy_0.5": accuracy,
        **{f"accuracy_{t}": sum(iou >= t for iou in ious) / len(ious) for t in THRESHOLDS},
        "iou": sum(ious) / len(ious),
        "centre_accuracy": sum(number(score, "centre") for score in scores) / len(scores),
        "answers_with_a_box": sum(number(score, "has_box") for score in scores) / len(scores),
    }


def _score_pointing(answer: str, item: Item) -> Score:
    expected = _to_box(numbers(item, "bbox", count=4))
    labels = {name: str(item[name]) for name in ("data_type", "data_source") if name in item}
    return {"score": float(points_into(answer, expected)), **labels}


def _aggregate_pointing(scores: Sequence[Score]) -> dict[str, float]:
    kinds = {
        f"{key}/{label}": mean(group)
        for key in ("data_type", "data_source")
        for label, group in groups(scores, key).items()
    }
    return averages("pointing_accuracy")(scores) | kinds


def _to_box(edges: Sequence[float]) -> Box:
    mark = to_mark(edges)
    if not isinstance(mark, Box):
        raise DataError(
            f"field 'bbox' is the box {[round(edge, 4) for edge in edges]} as shares of the "
            "picture; expected left < right and top < bottom, from 0 to 1"
        )
    return mark


REFCOCO = Scorer(score=_score_refcoco, aggregate=_aggregate_refcoco)
POINTING = Scorer(score=_score_pointing, aggregate=_aggregate_pointing)
