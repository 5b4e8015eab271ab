"""What two to four cameras see at one moment, in a picture each or in one.

|  camera 2  |   |  camera 1  |    Which camera sees the red star?       camera 2
     *                  o          What does camera 1 see?               green circle
                                   How many things does camera 2 see?    1
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL.Image import Image as PillowImage

from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.splits import draw_apart
from onevision.synth.kit.words import article, join, number_of, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for
from onevision.synth.worlds.clips.cameras import (
    SEEN,
    UNSEEN,
    Recording,
    draw_panels,
    draw_views,
    random_recording,
)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A recording, and one of its frames, in which no thing is cut off by half."""

    recording: Recording
    frame: int

    def seen_by(self, camera: int) -> list[str]:
        """Returns what a camera sees."""
        sightings = self.recording.sightings
        return [name for name, cameras in sightings.items() if cameras[camera][self.frame] >= SEEN]

    @property
    def cameras(self) -> dict[str, str]:
        """Every thing that is seen, and by which camera."""
        return {
            name: f"camera {n + 1}"
            for n in range(len(self.recording.windows))
            for name in self.seen_by(n)
        }


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th moment of a split."""
    rng = rng_for(split, "camera_stills", index)
    moment = draw_apart(split, rng, _random_moment, _describe)
    in_panels = rng.random() < 0.4
    views = draw_views(moment.recording, rng, side=98 if in_panels else rng.randint(98, 120))
    pictures: list[PillowImage] = [view[moment.frame] for view in views]
    if in_panels:
        pictures = draw_panels([[picture] for picture in pictures])
    return picture_sample(
        rng,
        *pictures,
        caption=f"{number_of(len(views), 'camera')} at one moment.",
        detail=_describe(moment),
        asked=_questions(moment, rng),
    )


def _random_moment(rng: random.Random) -> Moment:
    """Chooses a moment at which something is seen."""
    while True:
        recording = random_recording(rng)
        frame = rng.randrange(recording.num_frames)
        shares = [c[n][frame] for c in recording.sightings.values() for n in c]
        if all(s >= SEEN or s <= UNSEEN for s in shares) and max(shares) >= SEEN:
            return Moment(recording=recording, frame=frame)


def _describe(moment: Moment) -> str:
    """Says what every camera sees."""
    told = []
    for n in range(len(moment.recording.windows)):
        names = join(article(name) for name in moment.seen_by(n))
        told.append(f"Camera {n + 1} sees {'nothing' if names == 'none' else names}.")
    return " ".join(told)


def _questions(moment: Moment, rng: random.Random) -> Iterator[Question]:
    """Asks which camera sees what."""
    cameras = moment.cameras
    for name, camera in cameras.items():
        words: tuple[str, ...] = (
            f"Which camera sees the {name}?",
            f"In front of which camera is the {name}?",
        )
        yield ask(rng, "only_camera", words, camera)
    for n in range(len(moment.recording.windows)):
        seen = moment.seen_by(n)
        words = (f"How many things does camera {n + 1} see?",)
        yield ask(rng, "count_things", words, str(len(seen)))
        if len(seen) == 1:
            words = (f"What does camera {n + 1} see?", f"Which thing is seen by camera {n + 1}?")
            yield ask(rng, "what", words, seen[0])
    words = ("How many different things do the cameras see in all?",)
    yield ask(rng, "total", words, str(len(cameras)))
    words = ("How many cameras are there?", "From how many cameras are these pictures?")
    yield ask(rng, "cameras", words, str(len(moment.recording.windows)))
    n, name = rng.randrange(len(moment.recording.windows)), rng.choice(list(cameras))
    words = (f"Does camera {n + 1} see the {name}?",)
    yield ask(rng, "sees", words, yes_or_no(name in moment.seen_by(n)))
