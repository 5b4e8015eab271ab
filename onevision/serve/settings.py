"""Limits and ServerSettings: where a server listens, whom it answers, what a request may cost."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from onevision.errors import InputError
from onevision.generate.settings import EngineSettings
from onevision.inputs.image_work import WorkLimits
from onevision.inputs.sandbox_worker import UNTRUSTED_LIMITS, SandboxSettings
from onevision.inputs.video_work import VideoWorkLimits
from onevision.values import apply_settings

LOOPBACK = ("127.0.0.1", "::1", "localhost")
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may cost; /v1/models lists all. Raises InputError for values below 0."""

    body_bytes: int = 64 * MIB
    body_seconds: float = 60.0  # for the client to send it
    bodies_bytes: int = 512 * MIB  # of all requests that are prepared at a time
    bodies_bytes_per_key: int = 256 * MIB  # of these, if there are several API keys
    json_bytes: int = 2 * MIB  # of a body, beside its media and other long plain strings
    json_items: int = 32_768  # values in a body
    images: int = 32
    image_bytes: int = 20_000_000
    image_pixels: int = 40_000_000
    image_side: int = 16_384
    # What an image's structure may demand, counted before it is decoded.
    image_scans: int = WorkLimits.max_scans
    image_blocks: int = WorkLimits.max_blocks
    image_pieces: int = WorkLimits.max_pieces
    image_profiles: int = WorkLimits.max_profiles
    image_run_length_bytes: int = WorkLimits.max_run_length_bytes
    request_pixels: int = 120_000_000  # of all its images
    videos: int = 2
    video_bytes: int = 50_000_000
    video_seconds: float = 600.0
    video_frames: int = 18_000  # in the file
    frame_pixels: int = 4096 * 2304
    video_boxes: int = VideoWorkLimits.max_boxes
    video_samples: int = VideoWorkLimits.max_samples
    video_edits: int = VideoWorkLimits.max_edits
    frames: int = 64  # of a video that the model sees
    default_frames: int = 32
    text_bytes: int = 256 * 1024
    messages: int = 256
    answers: int = 8
    stops: int = 4
    stop_characters: int = 64
    logit_biases: int = 1024
    schema_bytes: int = 64 * 1024
    schema_depth: int = 32
    tokens: int = 4096  # of an answer
    default_tokens: int = 1024
    # "per_key": of the number before, if there are several API keys.
    preparing: int = 48  # requests whose media are read, or wait to be; as many without media
    preparing_per_key: int = 24
    media_wait_seconds: float = 120.0  # for a request's turn at a decoder
    running: int = 32
    running_per_key: int = 24
    queue: int = 64
    queue_per_key: int = 32
    connections: int = 1024  # and fewer where the system allows fewer open files
    write_seconds: float = 120.0  # for a client to read an answer, beside the time it takes
    # KV caches, of running requests and of the prefix cache: a quarter of the machine's memory.
    kv_bytes: int = field(default_factory=lambda: EngineSettings().kv_limit)
    encoder_bytes: int = 256 * MIB  # of visual tokens that are cached
    image_decode_seconds: float = 10.0
    video_decode_seconds: float = 20.0
    fetch_seconds: float = 15.0
    request_seconds: float = 300.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"limit {name} is {value}; expected 0 or more")

    @classmethod
    def parse(cls, changes: Sequence[str]) -> Self:
        """Reads limits from "name=value" strings. Raises InputError."""
        return apply_settings(cls(), changes, where="--limit", error=InputError)

    @property
    def sandbox(self) -> SandboxSettings:
        """The limits of the workers that decode media."""
        media = replace(
            UNTRUSTED_LIMITS,
            max_image_pixels=self.image_pixels,
            max_image_side=self.image_side,
            max_frame_pixels=self.frame_pixels,
            max_video_frames=self.video_frames,
            max_video_seconds=self.video_seconds,
            image_work=WorkLimits(
                max_scans=self.image_scans,
                max_blocks=self.image_blocks,
                max_pieces=self.image_pieces,
                max_profiles=self.image_profiles,
                max_run_length_bytes=self.image_run_length_bytes,
            ),
            video_work=VideoWorkLimits(
                max_boxes=self.video_boxes,
                max_samples=self.video_samples,
                max_edits=self.video_edits,
            ),
        )
        return SandboxSettings(
            limits=media,
            image_seconds=self.image_decode_seconds,
            video_seconds=self.video_decode_seconds,
        )


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Where a server listens and whom it answers. Raises InputError for unsafe settings."""

    name: str  # of the model, as requests spell it
    host: str = "127.0.0.1"
    port: int = 8000
    # Valid API keys; without any, everyone who can reach the port is answered.
    keys: tuple[str, ...] = field(default=(), repr=False)
    # Files with more of them, one per line, read again on SIGHUP.
    key_file: Path | None = None
    # Keys that may read the metrics of all keys too.
    admin_key_file: Path | None = None
    # Listen on other interfaces than loopback without a key.
    insecure: bool = False
    # Host names that clients may use, besides loopback and `host`.
    allowed_hosts: tuple[str, ...] = ()
    # Origins of other pages that may use the API (CORS).
    allowed_origins: tuple[str, ...] = ()
    # Hosts whose https URLs are fetched; without any, nothing is.
    media_hosts: tuple[str, ...] = ()
    # Refuse to start where the media decoders cannot be confined.
    require_sandbox: bool = False
    # Refuse fields that are ignored instead of naming them in a header.
    strict: bool = False
    # Unless a request sets it.
    temperature: float = 0.0
    drain_seconds: float = 30.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        has_keys = self.keys or self.key_file or self.admin_key_file
        if self.host not in LOOPBACK and not (has_keys or self.insecure):
            raise InputError(
                f"host {self.host} can be reached from other machines and there is no API key; "
                "give one (--api-key-file or $ONEVISION_API_KEY), or --insecure"
            )
        check_keys(self.keys, where="an API key")


def check_keys(keys: Iterable[str], *, where: str) -> None:
    """Raises InputError for a key that is too short or not ASCII."""
    if any(len(key) < 8 or not key.isascii() or not key.isprintable() for key in keys):
        raise InputError(f"{where} has 8 or more printable ASCII characters")
