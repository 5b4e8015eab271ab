"""Installed packages -> docs/licences.md: what a distribution contains, and its licences.

    python deploy/licences.py        # 2 seconds; writes docs/licences.md

Lists the packages that onevision and its extras (without `test`) need in this environment, with the
licence that each declares and the libraries that its wheel carries.
"""

import platform
import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from onevision.files import write_text

PAGE = Path(__file__).parents[1] / "docs" / "licences.md"
EXTRAS = ("data", "synth", "serve", "constrain", "plots", "ray", "s3", "gs", "small",
          "tensorboard")  # fmt: skip
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[(?P<extras>[\w, -]*)\])?(?P<rest>.*)")
LIBRARY = re.compile(
    r"(?:^|/)[\w.]+\.libs/(?:lib)?(?P<name>[\w+-]*?)(?:-[0-9a-f]{8})*\.(?:so|dylib)"
)
# Licences of bundled libraries that ask more of those who pass them on than to keep a notice.
COPYLEFT = {
    "avcodec": "LGPL-3.0-or-later as built", "avdevice": "LGPL-3.0-or-later as built",
    "avfilter": "LGPL-3.0-or-later as built", "avformat": "LGPL-3.0-or-later as built",
    "avutil": "LGPL-3.0-or-later as built", "swresample": "LGPL-3.0-or-later as built",
    "swscale": "LGPL-3.0-or-later as built",
    "x264": "GPL-2.0-or-later", "x265": "GPL-2.0-or-later",
    "mp3lame": "LGPL-2.0-or-later", "gmp": "LGPL-3.0-or-later or GPL-2.0-or-later",
    "nettle": "LGPL-3.0-or-later or GPL-2.0-or-later",
    "hogweed": "LGPL-3.0-or-later or GPL-2.0-or-later",
    "gnutls": "LGPL-2.1-or-later", "unistring": "LGPL-3.0-or-later or GPL-2.0-or-later",
    "asound": "LGPL-2.1-or-later", "gfortran": "GPL-3.0-or-later with the GCC runtime exception",
    "quadmath": "LGPL-2.1-or-later",
}  # fmt: skip


def main() -> None:
    """Writes the page."""
    packages = sorted(_find_packages(), key=lambda found: found.name.lower())
    write_text(PAGE, PAGE_TEXT.format(
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        packages="\n".join(map(_describe_package, packages)),
        libraries="\n".join(_describe_libraries(packages)),
    ))  # fmt: skip
    print(f"wrote {PAGE}: {len(packages)} packages")  # noqa: T201


def _find_packages() -> list[Distribution]:
    """Returns all packages that onevision needs, directly or not, as far as they are installed."""
    found = dict[str, Distribution]()
    waiting = [("onevision", frozenset(EXTRAS))]
    seen = set[tuple[str, frozenset[str]]]()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform, or an extra that is not installed
        found[_normalise(name)] = package
        waiting += _requirements(package, extras)
    del found["onevision"]
    return list(found.values())


def _requirements(
    package: Distribution, extras: frozenset[str]
) -> Iterator[tuple[str, frozenset[str]]]:
    for text in package.requires or ():
        match = REQUIREMENT.match(text)
        assert match is not None, text
        wanted = re.search(r"extra == ['\"]([\w.-]+)['\"]", match["rest"])
        if wanted is None or wanted[1] in extras:
            names = frozenset(re.findall(r"[\w-]+", match["extras"] or ""))
            yield _normalise(match["name"]), names


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _describe_package(package: Distribution) -> str:
    return f"| {package.name} | {package.version} | {_licence(package)} |"


def _licence(package: Distribution) -> str:
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = metadata.get_all("Classifier") or []
    named = [c.split(" :: ")[-1] for c in classifiers if c.startswith("License ::")]
    first = (metadata.get("License") or "").strip().split("\n")[0]
    return "; ".join(named) or first[:60] or "not declared; see the package"


def _describe_libraries(packages: list[Distribution]) -> Iterator[str]:
    for package in packages:
        files = map(str, package.files or ())
        names = sorted({match["name"] for file in files if (match := LIBRARY.search(file))})
        if names:
            marked = (f"**{n}** ({COPYLEFT[n]})" if n in COPYLEFT else n for n in names)
            yield f"| {package.name} {package.version} | {', '.join(marked)} |"


PAGE_TEXT = """\
# Licences

What you pass on when you pass on onevision with its dependencies: each package, its licence, and
the libraries inside its wheel. onevision itself is Apache-2.0; the weights of released models have
licences of their own, on their model cards.

This page is written by `python deploy/licences.py` from the metadata of the installed packages
(Python {python}, {machine}). Other platforms and versions differ: run it in the
environment that you ship. `make sbom` writes the same as a CycloneDX file for tools.

## If you ship an image or an installer

Using onevision on your own machines, also as a service, asks nothing of you here. Passing it on
does:

1. **PyAV's wheel carries GPL encoders.** PyAV is BSD-3-Clause, but its wheel bundles FFmpeg, and
   FFmpeg's `libavcodec` is linked to `libx264` and `libx265`, which are GPL-2.0-or-later. FFmpeg
   calls itself "LGPL version 3 or later" in that build; with x264 and x265 beside it, the whole is
   commonly held to be under the GPL, version 3. If you pass on an image with this wheel,
   offer the corresponding source and keep the licence texts, or avoid the question (2). Training,
   answering and serving only decode; `onevision synth` and the tests write H.264 clips.
2. **Without GPL parts**, build PyAV against an FFmpeg of your own (about 10 minutes, not tried
   here): configure FFmpeg with `--enable-shared --disable-gpl --enable-libdav1d`, then
   `pip install --no-binary av av`. Decoding H.264, HEVC, VP9 and AV1 needs neither x264 nor x265;
   synthetic clips cannot be written then.
3. Keep the licence files of all packages: they lie in `*.dist-info/` of the installed packages.
4. H.264 and HEVC are covered by patents in some countries, whatever the licence of the code.

This is what the files say, not legal advice.

## Libraries inside wheels

In bold: licences that ask for more than a notice.

| wheel | libraries |
|---|---|
{libraries}

## Packages

| package | version | licence, as declared |
|---|---|---|
{packages}
"""


if __name__ == "__main__":
    main()
