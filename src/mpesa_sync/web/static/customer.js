// The customers' page: shows what the server says may be paid with, and never more than is confirmed.

import { mayFollow, watch } from "./live.js";

const page = document.querySelector("main");
const at = (id) => document.getElementById(id);
const [list, form, answer, button, status] = ["methods", "pay", "answer", "button", "status"].map(at);
const texts = JSON.parse(at("texts").textContent);
const UNCONFIRMED = new Set(["stale", "offline", "gone"]);
const CALM_MS = 1500; // a connection that is back by then was never worth a word
const ASK_MS = 12_000;

let offer = JSON.parse(at("snapshot").textContent);
let state = "";
let calm = 0;
let isDue = false;
let picked = page.dataset.picked; // what the person has chosen, "" where only we have
let answered = ""; // the method that #answer speaks of

const fill = (text, method) => text.replace("{method}", texts.methods[method] ?? method);
const input = (id) => list.querySelector(`input[value="${id}"]`);
const checked = () => list.querySelector("input:checked")?.value ?? "";

// What may be shown now: without a confirmed answer everything of it but M-Pesa.
function possible() {
  const ids = offer.methods.map((method) => method.id).filter((id) => at(`choice-${id}`));
  return UNCONFIRMED.has(state) ? ids.filter((id) => id !== "mpesa") : ids;
}

// Change the list to `wanted`, touching only what differs: what somebody is at keeps the focus.
function show(wanted) {
  const shown = [...list.children].map((item) => item.dataset.method);
  const gone = shown.filter((id) => !wanted.includes(id));
  const come = wanted.filter((id) => !shown.includes(id));
  for (const id of gone) {
    const item = list.querySelector(`[data-method="${id}"]`);
    if (item.contains(document.activeElement)) at("question").focus();
    item.remove();
  }
  wanted.forEach((id, place) => {
    if (list.children[place]?.dataset.method === id) return;
    const item = at(`choice-${id}`).content.firstElementChild.cloneNode(true);
    item.dataset.fresh = "";
    list.insertBefore(item, list.children[place] ?? null);
  });
  list.hidden = at("next").hidden = wanted.length === 0;
  at("none").hidden = wanted.length > 0;
  at("closed").hidden = !offer.closed;
  page.dataset.version = offer.version;
  const lines = gone.map(farewell).concat(come.map((id) => fill(texts.appeared, id)));
  if (gone.length || come.length) at("news").textContent = lines.filter(Boolean).join(" ");
  if (gone.includes(answered) || come.includes(answered)) say("");
  choose(wanted);
}

// What is only not confirmed is said by the status line; here only to who has chosen it.
function farewell(id) {
  if (offer.methods.some((method) => method.id === id)) return id === picked ? fill(texts.unconfirmed, id) : "";
  return fill(id === picked ? texts.choose_again : texts.vanished, id);
}

// Who has chosen nothing gets the first; a choice of their own is never replaced by another one, and comes back with
// its method. What was typed stays in its field all the while.
function choose(wanted) {
  const id = picked || wanted[0];
  for (const one of list.querySelectorAll("input")) one.checked = one.value === id;
  const chosen = checked();
  const said = chosen ? fill(texts.choice, chosen) : "";
  if (at("choice").textContent !== said) at("choice").textContent = said;
  button.textContent = chosen ? fill(texts.pay["button.with"], chosen) : texts.pay.button;
}

function word() {
  page.dataset.state = status.dataset.state = state;
  const cash = state !== "gone" && possible().includes("cash") ? texts.cash_is_fine : texts.ask;
  const said = UNCONFIRMED.has(state) ? `${texts[state]} ${cash}` : texts[state];
  if (status.textContent !== said) status.textContent = said;
}

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

// What Pay was answered, about `method`; "" takes it away.
function say(text, tone = "", method = "") {
  answer.className = `said ${tone}`;
  answer.textContent = text;
  answered = text ? method : "";
  if (text) answer.scrollIntoView({ block: "nearest" });
}

function mark(wrong) {
  for (const id of ["phone", "amount", "method"]) {
    const line = at(`${id}-wrong`);
    if (!line) continue;
    line.textContent = wrong[id] ?? "";
    line.hidden = !wrong[id];
    if (at(id)) at(id).setAttribute("aria-invalid", String(Boolean(wrong[id])));
  }
  const first = ["phone", "amount"].find((id) => wrong[id] && at(id));
  if (first) at(first).focus();
  else if (wrong.method) at("question").focus();
}

// Ask the server again before anybody pays: what it says now counts, whatever this page shows.
async function pay() {
  const method = checked();
  const amount = form.elements.amount.value.replace(/[, ]/g, "");
  const typed = { phone: at("phone").value.trim(), amount: /^\d+$/.test(amount) ? Number(amount) : amount };
  const sent = method === "mpesa" ? Object.fromEntries(Object.entries(typed).filter(([, value]) => value !== "")) : {};
  say(texts.pay.asking, "note", method);
  button.disabled = true;
  try {
    const response = await fetch(page.dataset.pay, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ method, ...sent }),
      signal: AbortSignal.timeout(ASK_MS),
    });
    const said = await response.json();
    const wrong = Object.fromEntries((said.errors ?? []).map((one) => [one.field, one.message]));
    if (response.ok) heard(said, method);
    else if (response.status === 503) say(said.detail, "check", method);
    else say(response.status === 400 ? texts.pay.wrong : said.detail, "bad", method);
    mark(wrong);
  } catch {
    say(texts.pay.failed, "bad", method);
  } finally {
    button.disabled = false;
  }
}

function heard(said, method) {
  // Newer than what is shown: shown at once. Another epoch is the stream's business, which knows which one is over.
  const epoch = (version) => version.slice(0, version.lastIndexOf(":"));
  if (epoch(said.version) === epoch(offer.version) && mayFollow(offer.version, said.version)) {
    offer = said;
    show(possible());
    at("news").textContent = ""; // the answer says it
  }
  say(said.reason, said.allowed ? "good" : "check", method);
}

list.addEventListener("click", (event) => {
  if (!event.target.matches("input")) return;
  picked = event.target.value;
  choose(possible());
  if (answered && answered !== picked) say("");
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!button.disabled) pay();
});
answered = answer.textContent && page.dataset.picked;
// A browser may remember a choice across a reload; what was chosen then says nothing now.
choose(possible());

watch({
  url: page.dataset.url,
  version: offer.version,
  onOffer(fresh) {
    if (!mayFollow(offer.version, fresh.version)) return;
    offer = fresh;
    soon();
  },
  onState(fresh) {
    state = fresh;
    soon();
  },
});
