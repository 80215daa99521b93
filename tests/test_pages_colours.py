"""The style sheet: readable in both schemes, large enough for thumbs, calm where somebody asks for that."""

from __future__ import annotations

import re
from typing import Final

import pytest

from mpesa_sync.web import pages

CSS: Final = pages.assets()["site.css"].body.decode()
TEXT: Final = 4.5
SIGN: Final = 3.0
PAIRS: Final = [
    *((ink, ground, TEXT) for ink in ("ink", "muted", "link") for ground in ("ground", "surface")),
    *((f"on-{tone}", tone, TEXT) for tone in ("accent", "shown", "off", "trouble", "wrong")),
    *((sign, ground, SIGN) for sign in ("control", "accent", "focus", "on-wrong") for ground in ("ground", "surface")),
]


def _palette(scheme: str) -> dict[str, str]:
    dark = CSS.index("@media (prefers-color-scheme: dark)")
    block = CSS[dark : CSS.index("}\n}", dark)] if scheme == "dark" else CSS[:dark]
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours as WCAG 2 defines it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("front", "back", "least"), PAIRS)
def test_colours_can_be_read(scheme: str, front: str, back: str, least: float) -> None:
    """Issue 3: readable outdoors; text 4.5 to 1, edges and signs 3 to 1 (WCAG 2 AA)."""
    palette = _palette(scheme)
    assert contrast(palette[front], palette[back]) >= least


def test_the_ratio_is_the_known_one() -> None:
    """A test that cannot fail is a defect: black on white is 21, grey #777777 on white just misses."""
    assert round(contrast("#000000", "#ffffff"), 2) == 21
    assert contrast("#777777", "#ffffff") < TEXT


def test_both_schemes_name_the_same_colours() -> None:
    """Issue 3: light and dark; none is forgotten, none is used that is not there."""
    assert _palette("light").keys() == _palette("dark").keys()
    assert set(re.findall(r"var\(--([a-z-]+)\)", CSS)) == set(_palette("light"))


def test_colours_stand_in_the_palette_alone() -> None:
    """Issue 3: what is tested here is all that is used (print and the palette apart)."""
    rules = CSS[CSS.index("box-sizing") : CSS.index("@media print")]
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?![\w-]*\s*[{,.:>])", rules)


def test_the_sheet_is_calm_on_request_and_shows_the_focus() -> None:
    """Issue 3: reduced motion, visible focus, targets of 48 px at a base of 18 px."""
    assert "prefers-reduced-motion: reduce" in CSS
    assert ":focus-visible { outline: 3px" in CSS
    assert "font: 112.5%" in CSS
    heights = [
        float(rem)
        for rem in re.findall(r"(?:\.button|\.tap|select|\.option|\.choice)[^{}]*{[^}]*min-height: ([\d.]+)rem", CSS)
    ]
    assert heights
    assert min(heights) * 18 >= 48


def test_nothing_is_fetched_by_the_sheet() -> None:
    """Issue 3: no web fonts, no pictures from elsewhere."""
    assert "url(" not in CSS
    assert "@import" not in CSS
