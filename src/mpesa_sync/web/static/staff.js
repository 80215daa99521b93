// The staff's pages: the status block follows the customers' own stream; forms work without any of this.

import { renew, watch } from "./live.js";

const SETTLE_MS = 1000; // a switch that has just changed its meaning does not take a press that was on its way
const VENUES_MS = 15_000;
const AGAIN_MS = 3_000; // a status that could not be read while the feed is live is asked for again
const now = document.getElementById("now");
const form = document.getElementById("credentials");

if (now) followStatus();
if (form) helpForm();
if (document.getElementById("venues")) followVenues();
// What went wrong, or was done, has the focus: a page that has just come is not announced by itself.
["errors", "failed", "done"].map((id) => document.getElementById(id)).find(Boolean)?.focus();
// What was done is said once: not again when the page is loaded again.
if (location.search.startsWith("?done=")) history.replaceState(null, "", location.pathname);
localTimes();

function followStatus() {
  const feed = document.getElementById("feed");
  const texts = JSON.parse(document.getElementById("texts").textContent);
  let wanted = 0;
  let isLive = false;
  let again = 0;
  const say = (text, state) => {
    feed.dataset.state = state;
    if (feed.textContent !== text) feed.textContent = text;
  };
  const part = (name) => now.querySelector(`[data-part="${name}"]`);

  function fill(status) {
    now.dataset.tone = status.tone;
    now.dataset.version = status.version;
    for (const name of ["word", "sentence", "meaning", "remedy"]) {
      if (part(name).textContent !== status[name]) part(name).textContent = status[name];
    }
    part("why").hidden = !status.meaning;
    part("besides").replaceChildren(...status.besides.map((line) => item("li", line)));
    part("besides").hidden = status.besides.length === 0;
    status.fields.forEach((field) => {
      const value = now.querySelector(`[data-field="${field.name}"]`);
      if (value) value.textContent = field.value;
    });
  }
  function item(tag, text) {
    const made = document.createElement(tag);
    made.textContent = text;
    return made;
  }
  async function read() {
    const mine = (wanted += 1);
    clearTimeout(again);
    try {
      const answer = await fetch(now.dataset.status, { cache: "no-store", headers: { Accept: "application/json" } });
      if (mine !== wanted) return;
      if (answer.status === 401 || answer.redirected) return say(texts.signed_out, "stale");
      if (!answer.ok) throw new Error(String(answer.status));
      const status = await answer.json();
      if (mine !== wanted) return;
      if (isLive) say(texts.live, "live");
      fill(status);
      await renewSwitch();
      localTimes();
    } catch {
      if (mine !== wanted || !isLive) return; // where it is not live, the words for that stand already
      say(texts.not_live, "stale");
      again = setTimeout(read, AGAIN_MS);
    }
  }

  watch({
    url: now.dataset.url,
    version: now.dataset.version,
    onOffer: read,
    onState(state) {
      isLive = state === "live" || state === "polling";
      const key = isLive ? "live" : state === "connecting" || state === "reconnecting" ? "connecting" : "not_live";
      say(texts[key], state);
      if (isLive) read();
    },
  });
}

// The switch and the changes come as the server makes them: their words depend on the rule, and the rule lives there.
async function renewSwitch() {
  const old = document.getElementById("switch");
  const hadFocus = old?.contains(document.activeElement);
  if (!(await renew(now.dataset.page, "switch", "changes"))) return;
  const fresh = document.getElementById("switch");
  if (!fresh || fresh === old) return;
  if (hadFocus) fresh.querySelector("h2").focus();
  const buttons = [...fresh.querySelectorAll("button")];
  buttons.forEach((button) => (button.disabled = true));
  setTimeout(() => buttons.forEach((button) => (button.disabled = false)), SETTLE_MS);
}

// Another environment has other stored values: the numbers follow where nobody has typed, and so do the placeholders.
function helpForm() {
  const numbers = ["mpesa_business_shortcode", "mpesa_till_number"];
  const option = () => form.querySelector("[name=mpesa_environment]:checked");
  let chosen = option();
  form.addEventListener("change", (event) => {
    if (event.target.name !== "mpesa_environment") return;
    const fresh = option();
    for (const name of numbers) {
      const field = form.elements[name];
      if (field.value === (chosen?.dataset[name] ?? "")) field.value = fresh.dataset[name];
    }
    const types = form.elements.mpesa_account_type;
    if (!chosen || types.value === chosen.dataset.type) types.value = fresh.dataset.type;
    const kept = fresh.dataset.kept.split(" ");
    for (const field of form.querySelectorAll("input[type=password]")) {
      field.placeholder = kept.includes(field.name) ? form.dataset.keep : "";
    }
    chosen = fresh;
  });
}

// The list is read again now and then, and whenever somebody comes back to it; where that fails, it says so.
function followVenues() {
  const feed = document.getElementById("feed");
  const texts = JSON.parse(document.getElementById("texts").textContent);
  const say = (isRead) => {
    const text = isRead ? texts.live : texts.not_live;
    feed.dataset.state = isRead ? "polling" : "stale";
    if (feed.textContent !== text) feed.textContent = text;
  };
  async function again() {
    if (document.visibilityState !== "visible") return;
    const link = document.activeElement?.closest("#venues a")?.getAttribute("href");
    say(await renew(location.href, "venues").catch(() => false));
    if (!link || document.activeElement?.closest("#venues")) return;
    [...document.querySelectorAll("#venues a")].find((one) => one.getAttribute("href") === link)?.focus();
  }
  say(true);
  setInterval(again, VENUES_MS);
  addEventListener("pageshow", (event) => event.persisted && again());
  document.addEventListener("visibilitychange", again);
}

function localTimes() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    time.textContent = new Date(time.dateTime).toLocaleString(document.documentElement.lang, {
      dateStyle: "medium",
      timeStyle: "short",
    });
  }
}
