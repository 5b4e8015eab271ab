from onevision.anyres import CropLayout, VideoRule, plan_video
from onevision.inputs.frame_times import NumFrames
from onevision.inputs.upright import ImageSize
from onevision.serve.schema.models import MediaCount


def test_cuts_are_shares_of_the_image():
    # 200 x 100 pixels in the middle of a canvas of 2 x 2 crops of 100: they meet in its middle.
    layout = CropLayout(
        width=200, height=100, crop_size=100, side=7, fit="squash", newline=True,
        cols=2, rows=2, resized_width=200, resized_height=100, top=50,
    )  # fmt: skip
    told = MediaCount.of(layout, ImageSize(width=200, height=100))
    assert (told.kind, told.crops) == ("image", 5)
    assert (told.cuts_across, told.cuts_down) == ([0.5], [0.5])


def test_the_times_of_sampled_frames_are_listed():
    layout = plan_video(num_frames=2, rule=VideoRule(crop_size=98))
    assert MediaCount.of(layout, NumFrames(2, (0.0, 1.23456))).seconds == [0, 1.235]
    assert MediaCount.of(layout, NumFrames(2)).seconds == []
