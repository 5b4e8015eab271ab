"""Moving things seen by two to four fixed cameras at the same time.

the world       |  camera 2  |   |  camera 1  |   |  camera 3  |
                  *---------------------------->
                                    o                   <----- ^

Which camera sees the red star first?  camera 2      How many cameras see the red star?  2
Through which cameras does it go?      camera 2, camera 1
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from PIL import Image as PIL
from PIL import ImageDraw
from PIL.Image import Image as PillowImage

from onevision.conversation import Video
from onevision.synth.kit.questions import choose
from onevision.synth.kit.shapes import REACH, Colour, Look, random_looks
from onevision.synth.kit.splits import is_leaked
from onevision.synth.kit.text import Letters
from onevision.synth.kit.words import join, number_of, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for

FRAME_COUNTS = (8, 8, 10, 10, 12)
GROUNDS: tuple[Colour, ...] = (
    *((245, 245, 240), (205, 220, 230), (225, 215, 200), (210, 225, 205)),
    *((30, 32, 40), (60, 55, 70), (190, 190, 195)),
)
# Half of a thing's width, and the space between windows, in widths of a window.
RADIUS, SPACE = 0.11, 0.3
# Shares of a thing's width: from SEEN on, a camera sees it; up to UNSEEN, it does not.
SEEN, UNSEEN = 0.75, 0.05


@dataclass(frozen=True, kw_only=True)
class Track:
    """A thing's way through the world: from `start` to `end` on its own lane."""

    look: Look
    lane: float
    start: float
    end: float

    def x(self, share: float) -> float:
        """Returns where it is when `share` of the time has passed."""
        return self.start + (self.end - self.start) * share

    @property
    def heading(self) -> str | None:
        """The direction in which it moves, if it does."""
        if self.start == self.end:
            return None
        return "right" if self.end > self.start else "left"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Tracks, and the windows' left edges: camera 1's, camera 2's, ..."""

    tracks: tuple[Track, ...]
    windows: tuple[float, ...]
    num_frames: int

    @cached_property
    def sightings(self) -> dict[str, dict[int, list[float]]]:
        """The share of each thing that each camera sees, frame by frame."""
        shares = [frame / (self.num_frames - 1) for frame in range(self.num_frames)]
        return {
            t.look.name: {
                n: [_visible(t.x(share) - left) for share in shares]
                for n, left in enumerate(self.windows)
            }
            for t in self.tracks
        }

    @property
    def is_clear(self) -> bool:
        """Whether something moves, and every camera sees every thing well, or never at all."""
        if not any(track.heading for track in self.tracks):
            return False
        best = [max(seen) for cameras in self.sightings.values() for seen in cameras.values()]
        return all(share >= SEEN or share <= UNSEEN for share in best)

    def path(self, track: Track) -> list[int]:
        """Returns the cameras that see a thing, in the order in which it appears in them."""
        cameras = self.sightings[track.look.name]
        seen = [n for n in cameras if max(cameras[n]) >= SEEN]
        return sorted(seen, key=lambda n: next(f for f, s in enumerate(cameras[n]) if s > UNSEEN))

    def at(self, track: Track, frame: int) -> int | None:
        """Returns the camera that sees a thing in a frame."""
        cameras = self.sightings[track.look.name]
        return next((n for n in cameras if cameras[n][frame] > UNSEEN), None)


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th recording of a split."""
    rng = rng_for(split, "cameras", index)
    recording = random_recording(rng)
    while not recording.is_clear or is_leaked(split, _describe(recording)):
        recording = random_recording(rng)
    in_panels = rng.random() < 0.4
    views = draw_views(recording, rng, side=98 if in_panels else rng.randint(98, 120))
    media = (Video(draw_panels(views)),) if in_panels else tuple(map(Video, views))
    seen = [t for t in recording.tracks if recording.path(t)]
    where = "in one picture" if in_panels else "in as many clips"
    names = join(f"the {track.look.name}" for track in seen)
    caption = f"{number_of(len(views), 'camera')} {where}; they see {names}."
    return Sample(
        media=media,
        caption=caption,
        detail=f"{caption} {_describe(recording)}",
        questions=choose(rng, _questions(recording, rng)),
    )


def random_recording(rng: random.Random) -> Recording:
    """Sets up cameras, in order or not, and lets things pass them."""
    count = rng.choice((2, 3, 3, 4))
    windows = [n * (1 + SPACE) for n in range(count)]
    num_things = rng.randint(2, 4)
    tracks = tuple(
        _track(rng, look, windows, lane=(n + 0.5) / num_things)
        for n, look in enumerate(random_looks(rng, num_things))
    )
    if rng.random() < 0.6:
        rng.shuffle(windows)
    return Recording(tracks=tracks, windows=tuple(windows), num_frames=rng.choice(FRAME_COUNTS))


def _track(rng: random.Random, look: Look, windows: list[float], *, lane: float) -> Track:
    """Lets a thing stand in a window, or move between places in or beside windows."""
    places = [left + rng.choice((0.25, 0.5, 0.75)) for left in windows]
    places = [windows[0] - 0.4, *places, windows[-1] + 1.4]
    if rng.random() < 0.25:
        start = end = rng.choice(places[1:-1])
    else:
        start, end = rng.sample(places, 2)
    return Track(look=look, lane=0.16 + 0.8 * lane, start=start, end=end)


def _visible(x: float) -> float:
    """Returns how much of a thing's width is in the window from 0 to 1."""
    radius = RADIUS * REACH
    return max(0.0, min(1.0, x + radius) - max(0.0, x - radius)) / (2 * radius)


def draw_views(recording: Recording, rng: random.Random, *, side: int) -> list[list[PillowImage]]:
    """Draws what every camera sees, frame by frame, each on its own ground with its number."""
    grounds = rng.sample(GROUNDS, len(recording.windows))
    views = []
    for n, (left, ground) in enumerate(zip(recording.windows, grounds, strict=True)):
        empty = PIL.new("RGB", (side, side), ground)
        ink = (20, 20, 20) if sum(ground) > 380 else (240, 240, 240)
        name = f"camera {n + 1}"
        Letters(size=11).write(ImageDraw.Draw(empty), 5, 9, name, ink=ink, anchor="lm")
        frames = []
        for frame in range(recording.num_frames):
            picture = empty.copy()
            for track in recording.tracks:
                x = track.x(frame / (recording.num_frames - 1)) - left
                if -1 < x < 2:
                    y, radius = track.lane * side, RADIUS * side
                    track.look.stamp(picture, x=x * side, y=y, radius=radius)
            frames.append(picture)
        views.append(frames)
    return views


def draw_panels(views: list[list[PillowImage]]) -> list[PillowImage]:
    """Puts what all cameras see at the same time into one picture, two by two."""
    side, gap, cols = views[0][0].width, 4, 2
    rows = -(-len(views) // cols)
    size = (cols * (side + gap) - gap, rows * (side + gap) - gap)
    frames = []
    for pictures in zip(*views, strict=True):
        canvas = PIL.new("RGB", size, (150, 40, 60))
        for n, picture in enumerate(pictures):
            canvas.paste(picture, ((n % cols) * (side + gap), (n // cols) * (side + gap)))
        frames.append(canvas)
    return frames


def _camera_names(cameras: list[int]) -> list[str]:
    """Returns the names of cameras, which are numbered from 0."""
    return [f"camera {n + 1}" for n in cameras]


def _describe(recording: Recording) -> str:
    """Describes where every thing goes and which cameras see it."""
    parts = list[str]()
    for track in recording.tracks:
        does = f"moves to the {track.heading}" if track.heading else "stands still"
        path = ", then by ".join(_camera_names(recording.path(track))) or "no camera"
        parts.append(f"The {track.look.name} {does} and is seen by {path}.")
    return " ".join(parts)


def _questions(recording: Recording, rng: random.Random) -> Iterator[Question]:
    """Asks about every thing and every camera."""
    for track in recording.tracks:
        if recording.path(track):
            yield from _ask_of_thing(recording, track, rng)
    for n in range(len(recording.windows)):
        yield from _ask_of_camera(recording, n, rng)
    seen = [t for t in recording.tracks if recording.path(t)]
    words = ("How many different things do the cameras see in all?",)
    yield ask(rng, "total", words, str(len(seen)))
    words = ("How many cameras are there?", "From how many cameras are these pictures?")
    yield ask(rng, "cameras", words, str(len(recording.windows)))
    still = [t.look.name for t in seen if not t.heading]
    if len(still) == 1:
        words = ("Which thing does not move?", "Which thing stands still?")
        yield ask(rng, "still", words, still[0])


def _ask_of_thing(recording: Recording, track: Track, rng: random.Random) -> Iterator[Question]:
    """Asks about a thing's way past the cameras."""
    name, path = track.look.name, recording.path(track)
    cameras = _camera_names(path)
    if len(path) > 1:
        words = (f"Which camera sees the {name} first?", f"Where does the {name} appear first?")
        yield ask(rng, "first", words, cameras[0])
        words = (f"Which camera is the last to see the {name}?",)
        yield ask(rng, "last", words, cameras[-1])
        words = (
            f"Which cameras see the {name}, in order of time?",
            f"Past which cameras does the {name} go, one after the other?",
        )
        yield ask(rng, "path", words, ", ".join(cameras))
    else:
        words = (f"Which camera sees the {name}?", f"In front of which camera is the {name}?")
        yield ask(rng, "only_camera", words, cameras[0])
    words = (f"How many cameras see the {name}?", f"In how many cameras is the {name} seen?")
    yield ask(rng, "count_cameras", words, str(len(path)))
    if track.heading:
        words = (f"In which direction does the {name} move?", f"Which way does the {name} go?")
        yield ask(rng, "direction", words, track.heading)
    for moment, frame in (("beginning", 0), ("end", recording.num_frames - 1)):
        camera = recording.at(track, frame)
        words = (f"Which camera sees the {name} at the {moment}?",)
        yield ask(rng, f"at_{moment}", words, "none" if camera is None else f"camera {camera + 1}")


def _ask_of_camera(recording: Recording, n: int, rng: random.Random) -> Iterator[Question]:
    """Asks what one camera sees."""
    seen = [t.look.name for t in recording.tracks if n in recording.path(t)]
    words = (
        f"How many things does camera {n + 1} see?",
        f"How many different things are seen by camera {n + 1}?",
    )
    yield ask(rng, "count_things", words, str(len(seen)))
    if len(seen) == 1:
        words = (f"What does camera {n + 1} see?", f"Which thing is seen by camera {n + 1}?")
        yield ask(rng, "what", words, seen[0])
    track = rng.choice(recording.tracks)
    words = (f"Does camera {n + 1} ever see the {track.look.name}?",)
    yield ask(rng, "ever", words, yes_or_no(n in recording.path(track)))
