"""A saved plan: what is read is what was written, and whatever was done to it in between is refused (R2, spec 6)."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpesa_sync.migration import plan_file
from mpesa_sync.migration.plan_file import PlannedBar, PlanWriter
from mpesa_sync.migration.plan_format import line_of
from tests.support.plans import HERE, NOW, SOME, header, planned, read, refusal, sealed, written

bars_of_a_plan: Final = st.lists(
    st.tuples(st.integers(0, 2**128 - 1), st.booleans(), st.booleans()), max_size=40, unique_by=lambda bar: bar[0]
).map(lambda drawn: [planned(n, authority=a, was_null=w) for n, a, w in sorted(drawn)])


# --- round trip


@given(bars=bars_of_a_plan, scanned=st.integers(0, 2**40), accepts=st.booleans())
def test_what_is_read_is_what_was_written(tmp_path: Path, bars: list[PlannedBar], scanned: int, accepts: bool) -> None:
    """R2, issue 5: header and bars come back equal, as often as one asks."""
    said = header(scanned=scanned, accept_stale_authority=accepts)
    written(tmp_path / "plan", bars, said)
    with plan_file.read(tmp_path / "plan", identity=HERE, now=NOW) as plan:
        assert plan.header == said
        for _ in range(2):
            assert list(plan.pairs()) == [(bar.bar_id, bar.authority) for bar in bars]
        assert len(plan) == len(bars)


def test_a_plan_is_private_and_ends_with_a_digest_of_all_before(tmp_path: Path) -> None:
    """R2, issue 5: JSON Lines, 0600, the last line count and SHA-256."""
    path, umask = tmp_path / "plan", os.umask(0)
    try:
        content = written(path, SOME)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    *body, trailer = content.splitlines(keepends=True)
    assert msgspec.json.decode(trailer) == {"count": 4, "digest": hashlib.sha256(b"".join(body)).hexdigest()}
    assert msgspec.json.decode(body[0])["database"]["name"] == "platform"


def test_many_bars_take_no_memory_either_way(tmp_path: Path) -> None:
    """R2, issue 5: streamed both ways; more bars than a reading keeps in memory."""
    path, number = tmp_path / "plan", 70_000
    tracemalloc.start()
    try:
        with PlanWriter(path, header()) as writer:
            for at in range(number):
                writer.add(planned(at))
            writer.finish()
        with plan_file.read(path, identity=HERE, now=NOW) as plan:
            assert sum(1 for _ in plan.pairs()) == number == len(plan)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_500_000


def test_what_happens_to_the_file_after_it_was_read_changes_nothing(tmp_path: Path) -> None:
    """R2: what was verified is what is given out, and not what stands there later."""
    written(tmp_path / "plan", SOME)
    with plan_file.read(tmp_path / "plan", identity=HERE, now=NOW) as plan:
        with (tmp_path / "plan").open("r+b") as file:
            file.write(b"x" * 400)
            file.truncate()
        assert [bar.int for bar, _ in plan.pairs()] == [1, 2, 700, 2**127]


# --- anything changed is refused


@given(at=st.integers(0, 10**6), byte=st.integers(1, 255), how=st.sampled_from(["changed", "removed", "inserted"]))
def test_a_single_byte_is_enough_to_refuse_it(tmp_path: Path, at: int, byte: int, how: str) -> None:
    """R2, issue 5: changed, removed or inserted anywhere, the trailer and the last newline too."""
    content = bytearray(written(tmp_path / "plan", SOME))
    at %= len(content)
    if how == "changed":
        content[at] ^= byte
    elif how == "removed":
        del content[at]
    else:
        content.insert(at + 1, byte)
    (tmp_path / "plan").write_bytes(content)
    assert "Traceback" not in refusal(tmp_path / "plan")


@given(bars=bars_of_a_plan.filter(bool), draw=st.data())
def test_lines_that_are_swapped_missing_or_twice_are_refused(
    tmp_path: Path, bars: list[PlannedBar], draw: st.DataObject
) -> None:
    """R2, issue 5: any two lines swapped, any line gone, any line there twice."""
    lines = written(tmp_path / "plan", bars).splitlines(keepends=True)
    first, second = sorted(draw.draw(st.lists(st.integers(0, len(lines) - 1), min_size=2, max_size=2, unique=True)))
    swapped, twice = lines.copy(), [*lines[:first], lines[first], *lines[first:]]
    swapped[first], swapped[second] = swapped[second], swapped[first]
    for changed in (swapped, [*lines[:first], *lines[first + 1 :]], twice):
        (tmp_path / "plan").write_bytes(b"".join(changed))
        assert "make it again with --plan-out" in refusal(tmp_path / "plan")


@given(end=st.integers(0, 10**6))
def test_what_was_cut_off_is_refused(tmp_path: Path, end: int) -> None:
    """R2, issue 5: wherever it ends early, also at the end of a line."""
    content = written(tmp_path / "plan", SOME)
    (tmp_path / "plan").write_bytes(content[: end % len(content)])
    assert re.search(r"cut off|empty", refusal(tmp_path / "plan"))


HEADER: Final = line_of(header())
BARS: Final = [line_of(bar) for bar in SOME]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n", "is not a plan"),
        (b'{"report": {}}\n', "is not a plan"),
        (b"\xef\xbb\xbf" + sealed(HEADER, *BARS), "is not a plan"),
        (b"\xff\xfe" + HEADER, "is not a plan"),
        (b"[" * 10_000 + b"\n", "is not a plan"),
        (b'{"format":' + b"[" * 10_000 + b"\n", "is not a plan"),
        (sealed(HEADER, *BARS).replace(b"\n", b"\r\n"), "at line 1"),
        (sealed(HEADER.replace(b"{", b'{"more":1,', 1), *BARS), "at line 1"),
        (sealed(HEADER.replace(b'"version":1', b'"version":0'), *BARS), "at line 1"),
        (sealed(HEADER.replace(b'"scanned":9', b'"scanned":NaN'), *BARS), "is not a plan"),
        (sealed(HEADER.replace(b'"scanned":9', b'"scanned":-9'), *BARS), "at line 1"),
        (sealed(HEADER.replace(b"ops:amina", b"ops\\u001b[2J"), *BARS), "at line 1"),
        (sealed(HEADER.replace(b"ops:amina", b"ops\xff"), *BARS), "at line 1"),
        (sealed(HEADER.replace(b"2026-03-07T18:00:00Z", b"2026-03-07T18:00:00"), *BARS), "at line 1"),
        (sealed(HEADER.replace(b"2026-03-07", b"2026-03-05"), *BARS), "at line 1"),
        (sealed(HEADER, BARS[1], BARS[0]), "at line 3"),
        (sealed(HEADER, BARS[0], BARS[0]), "at line 3"),
        (sealed(HEADER, BARS[0].replace(b"}", b',"more":1}')), "at line 2"),
        (sealed(HEADER, BARS[0].replace(b"{", b'{"authority":false,')), "at line 2"),
        (sealed(HEADER, BARS[0].replace(b":true", b":1")), "at line 2"),
        (sealed(HEADER, BARS[0].replace(b":false", b":NaN")), "at line 2"),
        (sealed(HEADER, BARS[0].replace(b"hidden", b"exposed")), "at line 2"),
        (sealed(HEADER, BARS[0].replace(b'"shown":false', b'"shown":true')), "at line 2"),
        (sealed(HEADER, BARS[0].replace(b"hidden", b"hi\xc3")), "at line 2"),
        (sealed(HEADER, b"\n"), "at line 2"),
        (sealed(HEADER, b" " * 20_000 + b"\n"), "line 2 is too long"),
        (sealed(HEADER, *BARS, count=3), "was changed"),
        (sealed(HEADER, *BARS, count=2**80), "was changed"),
        (sealed(HEADER, *BARS) + b"\n", "was changed"),
        (sealed(HEADER, *BARS) * 2, "was changed"),
        (sealed(HEADER, *BARS).rstrip(b"\n"), "cut off after line 5"),
    ],
)
def test_what_was_forged_or_mangled_is_refused_in_plain_words(tmp_path: Path, content: bytes, words: str) -> None:
    """R2, issue 5: also with a digest that is right; every refusal says what to do."""
    (tmp_path / "plan").write_bytes(content)
    said = refusal(tmp_path / "plan")
    assert words in said
    assert "make it again with --plan-out" in said


def test_a_line_of_ten_gigabytes_is_refused_at_once(tmp_path: Path) -> None:
    """R2, issue 5: it is not read."""
    for start in (b"", HEADER):
        with (tmp_path / "plan").open("wb") as file:
            file.write(start)
            file.truncate(10 * 2**30)
        tracemalloc.start()
        try:
            assert "is too long" in refusal(tmp_path / "plan")
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()


def test_what_is_no_plain_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    """R2, issue 5: a link, a folder, a pipe without a writer, nothing at all."""
    written(tmp_path / "plan", SOME)
    (tmp_path / "link").symlink_to(tmp_path / "plan")
    os.mkfifo(tmp_path / "pipe")
    assert "is a symbolic link" in refusal(tmp_path / "link")
    assert "is not a plain file" in refusal(tmp_path / "pipe")
    assert "is not a plain file" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "absent")
    assert "this is no name of a file" in refusal(Path("a\0b"))


# --- another database, another time, another version


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"name": "copy"}, "was made for the database 'platform', and this is 'copy'"),
        ({"database": 16_401}, "a copy, one restored since"),
        ({"bars_table": 16_501}, "a copy, one restored since"),
        ({"system": "7300000000000000002"}, "one of another server"),
        ({"timeline": 2}, "a copy, one restored since"),
        ({"installation": UUID(int=8)}, "a copy, one restored since"),
    ],
)
def test_a_plan_of_another_database_is_refused_and_both_are_named(
    tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    """R2, issue 5: whatever tells the two apart."""
    written(tmp_path / "plan", SOME)
    assert words in refusal(tmp_path / "plan", here=msgspec.structs.replace(HERE, **more))


def test_what_one_side_cannot_know_is_not_held_against_a_plan(tmp_path: Path) -> None:
    """R2: a plan from before ours was installed, and one of a role that may not ask the server, stay good."""
    written(tmp_path / "plan", SOME)
    blind = msgspec.structs.replace(HERE, system=None, timeline=None, installation=None)
    assert len(read(tmp_path / "plan", here=blind)) == 4
    assert "pg_control_system" in str(blind.unknown)
    assert HERE.unknown is None


def test_a_plan_expires(tmp_path: Path) -> None:
    """R2, issue 5: after 24 hours by default, to the moment; the refusal says since when."""
    written(tmp_path / "plan", SOME)
    last = NOW + timedelta(hours=24)
    assert len(read(tmp_path / "plan", now=last - timedelta(microseconds=1))) == 4
    assert "expired at 2026-03-07 18:00 UTC; make it again" in refusal(tmp_path / "plan", now=last)


def test_a_clock_that_was_set_back_is_noticed(tmp_path: Path) -> None:
    """Issue 5, clock jump: a plan from the future would outlive its day."""
    written(tmp_path / "plan", SOME)
    assert len(read(tmp_path / "plan", now=NOW - timedelta(minutes=5))) == 4
    assert "set the clock" in refusal(tmp_path / "plan", now=NOW - timedelta(minutes=6))


def test_a_plan_of_a_newer_version_says_so(tmp_path: Path) -> None:
    """R2, issue 5: whatever else stands in it."""
    (tmp_path / "plan").write_bytes(b'{"format":"mpesa-sync plan","version":2,"new":[1]}\n')
    assert "newer mpesa-sync (version 2 of plans, this one reads 1)" in refusal(tmp_path / "plan")
