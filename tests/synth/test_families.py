import pytest

from onevision.conversation import Video
from onevision.errors import InputError
from onevision.synth.families import FAMILIES, family_named, summary
from onevision.synth.kit.fonts import LEARNED, has_face

NEEDS_FACES = {"chinese_documents": ("chinese",), "lettered": LEARNED}


@pytest.fixture(params=sorted(FAMILIES))
def family(request):
    if not all(map(has_face, NEEDS_FACES.get(request.param, ()))):
        pytest.skip("a font is missing; install onevision[synth]")
    return FAMILIES[request.param]


def test_a_family_serves_every_stage(family):
    for index in range(20):
        sample = family("train", index)
        assert sample.caption
        assert len(sample.description) >= len(sample.caption)
        assert 1 <= len(sample.questions) <= 13


def test_media_are_small_enough_to_draw_on_the_fly(family):
    for index in range(5):
        for medium in family("heldout", index).media:
            pictures = medium.source if isinstance(medium, Video) else [medium.source]
            assert {picture.mode for picture in pictures} <= {"RGB"}
            assert max(max(picture.size) for picture in pictures) <= 800


def test_families_are_named():
    assert all(summary(name) for name in FAMILIES)
    with pytest.raises(InputError, match="no family 'chart'; expected one of scenes"):
        family_named("chart")
