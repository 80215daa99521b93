// The demo: both fields, the list and the controls follow every change, also one made with plain SQL. The two pages in
// the frames are never loaded again by a control, so that what changes in them has come by their own streams. No stream
// of our own: a browser has few connections for one site, and each frame takes one.

import { renew, replace } from "./live.js";

const PARTS = ["values", "venues", "controls"];
const EVERY_MS = 1_000;
const { state, page } = document.querySelector("main").dataset;
let shown = "";

async function follow() {
  if (document.visibilityState !== "visible") return;
  const answer = await fetch(state, { cache: "no-store" });
  const stored = await answer.text();
  if (!answer.ok || stored === shown) return;
  if (await renew(page, ...PARTS)) shown = stored;
}

(function again() {
  follow().catch(() => {}).finally(() => setTimeout(again, EVERY_MS));
})();

function closable() {
  const close = document.querySelector("#result button");
  if (!close) return;
  close.hidden = false;
  close.addEventListener("click", () => document.getElementById("result").replaceChildren());
}
closable();

document.addEventListener("submit", async (event) => {
  const form = event.target;
  const all = document.getElementById("controls");
  if (!all.contains(form)) return;
  event.preventDefault();
  const place = [...all.querySelectorAll("form")].indexOf(form);
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    if (!answer.ok) throw new Error(String(answer.status));
    const html = await answer.text();
    replace(html, ...PARTS);
    // Its content only: a status that is itself exchanged is not read out.
    const said = new DOMParser().parseFromString(html, "text/html").getElementById("result");
    document.getElementById("result").replaceChildren(...said.childNodes);
    closable();
    // The controls are new elements: the keyboard stays where it was.
    document.querySelectorAll("#controls form")[place]?.querySelector("button").focus({ preventScroll: true });
  } catch {
    const result = document.getElementById("result"); // never sent again by itself: it may have been done
    result.textContent = result.dataset.failed;
  } finally {
    button.disabled = false;
  }
});
