"""What is compared with the official code of OneVision-2, beside what is with that of 1.5."""

import random

# Cells of 3 x 3 patches.
NINE = ("image", [(300, 200), (90, 700)])
# The numbers of a video's frames, and its frames a second.
NUMBERS, RATE = (0, 7, 14, 29), 12.5
# Two windows of frames, of four and of two.
WINDOWED = [(200, 120)] * 6
# Prompts with an image and a video, in both orders.
CLIPS = {"image_first": ("image", "video"), "video_first": ("video", "image")}
_RANDOM = random.Random(11)
# Frames of a video, frames a second, most frames that are shown (16 or more).
SAMPLED = [
    (_RANDOM.randint(1, 20_000), _RANDOM.choice((10.0, 24.0, 25.0, 30.0, 60.0)), most)
    for most in (16, 32, 64, 384)
    for _ in range(500)
]
