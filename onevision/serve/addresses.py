"""The address of an image or a video -> its bytes: data addresses, and https where allowed."""

import base64
import binascii
from urllib.parse import unquote_to_bytes

from onevision.serve.fetch import Fetcher
from onevision.serve.question import Medium
from onevision.serve.schema.problems import ApiError
from onevision.serve.settings import Limits


def read_medium(medium: Medium, *, fetcher: Fetcher, limits: Limits) -> tuple[bytes, ...]:
    """Return the bytes behind the addresses of a medium. Raises ApiError."""
    kind = "video" if medium.kind == "video" else "image"
    most = limits.video_bytes if kind == "video" else limits.image_bytes
    sources = list[bytes]()
    for address in medium.addresses:
        if address[:5].lower() == "data:":
            source = _decode(address, kind=kind, param=medium.param)
        elif address[:8].lower() == "https://" or address[:7].lower() == "http://":
            source = fetcher.fetch(address, most=most, kind=kind, param=medium.param)
        else:
            raise ApiError(
                f"{medium.param}: expected data:{kind}/...;base64,... or an https address",
                code=f"invalid_{kind}_url",
                param=medium.param,
            )
        if len(source) > most:
            raise ApiError(
                f"{medium.param}: {len(source):,} bytes are more than the {most:,} allowed",
                code=f"{kind}_file_too_large",
                param=medium.param,
            )
        sources.append(source)
    return tuple(sources)


def _decode(address: str, *, kind: str, param: str) -> bytes:
    """Decode `data:<type>[;name=value]*;base64,<data>` (RFC 2397), and nothing looser."""
    head, comma, data = address.partition(",")
    if not comma or not head.lower().endswith(";base64") or len(head) > 256:
        raise ApiError(
            f"{param}: expected data:{kind}/...;base64,<data>",
            code=f"invalid_{kind}_url",
            param=param,
        )
    try:
        return base64.b64decode(unquote_to_bytes(data) if "%" in data else data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(
            f"{param}: the data are not base64 (A-Z a-z 0-9 + /, padded with =, no spaces)",
            code=f"invalid_base64_{kind}",
            param=param,
        ) from error
