// The customers' page: shows what the server says may be paid with, and never more than is confirmed.

import { watch } from "./live.js";

const page = document.querySelector("main");
const list = document.getElementById("methods");
const none = document.getElementById("none");
const next = document.getElementById("next");
const choice = document.getElementById("choice");
const status = document.getElementById("status");
const news = document.getElementById("news");
const texts = JSON.parse(document.getElementById("texts").textContent);
const UNCONFIRMED = new Set(["stale", "offline"]);
const CALM_MS = 1500; // a connection that is back by then was never worth a word

let offer = JSON.parse(document.getElementById("snapshot").textContent);
let state = "";
let calm = 0;
let isDue = false;

const fill = (text, method) => text.replace("{method}", texts.methods[method] ?? method);
const input = (item) => item.querySelector("input");

// What may be shown now: without a confirmed answer everything of it but M-Pesa.
function possible() {
  const ids = offer.methods.map((method) => method.id).filter((id) => document.getElementById(`choice-${id}`));
  return UNCONFIRMED.has(state) ? ids.filter((id) => id !== "mpesa") : ids;
}

// Change the list to `wanted`, touching only what differs: the chosen method stays chosen and keeps the focus.
function show(wanted) {
  const shown = [...list.children].map((item) => item.dataset.method);
  const chosen = list.querySelector("input:checked")?.value;
  const gone = shown.filter((id) => !wanted.includes(id));
  const come = wanted.filter((id) => !shown.includes(id));
  for (const id of gone) {
    const item = list.querySelector(`[data-method="${id}"]`);
    if (item.contains(document.activeElement)) document.getElementById("question").focus();
    item.remove();
  }
  wanted.forEach((id, place) => {
    if (list.children[place]?.dataset.method === id) return;
    const item = document.getElementById(`choice-${id}`).content.firstElementChild.cloneNode(true);
    item.dataset.fresh = "";
    list.insertBefore(item, list.children[place] ?? null);
  });
  list.hidden = next.hidden = wanted.length === 0;
  none.hidden = wanted.length > 0;
  const lines = gone.map((id) => farewell(id, id === chosen)).concat(come.map((id) => fill(texts.appeared, id)));
  if (gone.length || come.length) news.textContent = lines.filter(Boolean).join(" ");
  choose();
}

// What is only not confirmed is said by the status line; here only to who has chosen it.
function farewell(id, isChosen) {
  if (offer.methods.some((method) => method.id === id)) return isChosen ? fill(texts.unconfirmed, id) : "";
  return fill(isChosen ? texts.choose_again : texts.vanished, id);
}

function choose() {
  const chosen = list.querySelector("input:checked")?.value;
  choice.textContent = chosen ? fill(texts.choice, chosen) : "";
}

function word() {
  page.dataset.state = status.dataset.state = state;
  const cash = possible().includes("cash") ? texts.cash_is_fine : texts.ask;
  const said = UNCONFIRMED.has(state) ? `${texts[state]} ${cash}` : texts[state];
  if (status.textContent !== said) status.textContent = said;
}

list.addEventListener("change", choose);
// A browser may remember a choice across a reload; what was chosen then says nothing now.
[...list.children].forEach((item) => (input(item).checked = false));

// An answer and the state that it brings come together: shown at once, as one change.
function soon() {
  if (isDue) return;
  isDue = true;
  queueMicrotask(() => {
    isDue = false;
    show(possible());
    clearTimeout(calm);
    if (state === "reconnecting") calm = setTimeout(word, CALM_MS);
    else word();
  });
}

watch({
  url: page.dataset.url,
  version: offer.version,
  onOffer(fresh) {
    offer = fresh;
    page.dataset.version = offer.version;
    soon();
  },
  onState(fresh) {
    state = fresh;
    soon();
  },
});
