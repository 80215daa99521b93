"""All that a customers' page has shown, read from the DOM of a real browser at every change of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from playwright.async_api import BrowserContext, Page

Off = Literal["polling", "push", "nothing"]
"""What a page has to do without."""
_UNCONFIRMED: Final = frozenset({"stale", "offline", "gone"})
_LIVE: Final = {"polling": "live", "push": "polling", "nothing": "live"}
_DEADLINE_S: Final = 30.0
_WITHOUT: Final[dict[Off, str]] = {
    "nothing": "",
    "polling": "window.fetch = () => Promise.reject(new TypeError('polling is off'));",
    "push": """window.EventSource = class extends EventTarget {
      constructor() { super(); setTimeout(() => this.dispatchEvent(new Event("error"))); }
      close() {}
    };""",
}
_KEEP: Final = """
Math.random = () => 0.02; // tries to connect again come early
window.history_ = [];
document.addEventListener("DOMContentLoaded", () => {
  const main = document.querySelector("main");
  const look = () => {
    const methods = [...document.querySelectorAll("#methods > li")].map((one) => one.dataset.method);
    const chosen = document.querySelector("#methods input:checked")?.value ?? "";
    const isClosed = !document.getElementById("closed").hidden;
    history_.push([main.dataset.version, main.dataset.state, methods, chosen, isClosed]);
  };
  look();
  new MutationObserver(look).observe(main, { subtree: true, childList: true, attributes: true });
});
"""
_UNTIL: Final = """([version, state]) => new Promise((done) => {
  const main = document.querySelector("main");
  const look = () => main.dataset.version === version && main.dataset.state === state && done();
  new MutationObserver(look).observe(main, { attributes: true });
  look();
})"""


_PAY: Final = """() => new Promise((done) => {
  const button = document.getElementById("button");
  if (!button.checkVisibility()) return done(false);
  button.click();
  const look = () => button.disabled || done(true);
  new MutationObserver(look).observe(button, { attributes: true });
  look();
})"""


@dataclass(frozen=True)
class Truth:
    """What the database holds: the methods that are offered, and whether the venue is marked as closed."""

    methods: Sequence[str]
    closed: bool


async def remember(context: BrowserContext, off: Off) -> None:
    """Let every page of a context keep what it shows, and do without what is off."""
    await context.add_init_script(_WITHOUT[off] + _KEEP)


async def press_pay(page: Page) -> bool:
    """Press Pay where there is something to pay with, and wait for the answer; return whether there was."""
    return bool(await asyncio.wait_for(page.evaluate(_PAY), _DEADLINE_S))


async def until_live(page: Page, version: str, off: Off) -> None:
    """Wait until a page shows this version and is sure of it."""
    try:
        await asyncio.wait_for(page.evaluate(_UNTIL, [version, _LIVE[off]]), _DEADLINE_S)
    except TimeoutError:
        raise AssertionError(f"not {version}: {(await page.evaluate('history_'))[-5:]}") from None


async def expect_sound(page: Page, truths: Mapping[str, Truth], last: str) -> int:
    """Check all that a page has shown, and return how many versions that were.

    Every version is one of the database's and shown with exactly its answer (without M-Pesa where it was not
    confirmed), none is older than the one before, what is chosen is offered, and the last is the database's last.
    """
    shown = await page.evaluate("history_")
    order = list(truths)
    before = 0
    for version, state, methods, chosen, closed in shown:
        assert version in truths, (version, shown)
        truth = truths[version]
        expected = [one for one in truth.methods if state not in _UNCONFIRMED or one != "mpesa"]
        assert methods == expected, (version, state, methods, shown)
        assert closed is truth.closed, (version, closed, shown)
        assert not chosen or chosen in methods, (chosen, shown)
        assert order.index(version) >= before, ("went back", shown)
        before = order.index(version)
    assert shown[-1][0] == last, shown
    return len({version for version, *_ in shown})
