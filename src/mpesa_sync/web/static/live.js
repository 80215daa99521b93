// The live answer of one bar: a stream, a poll where streams do not come through, and the honest states between.
// States: connecting, live, polling, reconnecting, stale (not confirmed), offline, gone (no such bar). See watch().

const SILENCE_MS = 40_000; // this long without bytes: the page says so itself and stops offering M-Pesa
const HEARTBEAT_MS = 20_000; // the server beats every 15 s; quiet for longer: ask anew on coming back
const CONNECT_MS = 10_000;
const SETTLE_MS = 50; // a server that cannot confirm says `stale` right after its first frame
const BASE_MS = 1_000;
const CAP_MS = 15_000;
const FAILURES_BEFORE_POLL = 3;

// Whether version b ("epoch:n") may follow a: higher within an epoch; a new epoch replaces.
export function mayFollow(a, b) {
  if (!a) return true;
  const [epochA, numberA] = split(a);
  const [epochB, numberB] = split(b);
  return epochA !== epochB || numberB > numberA;
}

function split(version) {
  const at = version.lastIndexOf(":");
  return [version.slice(0, at), Number(version.slice(at + 1))];
}

// Full jitter: pages that were cut at once do not come back at once.
export function delay(failures, random = Math.random) {
  return random() * Math.min(CAP_MS, BASE_MS * 2 ** failures);
}

// Follow `url` (…/payment-methods) from `version` on; "" where the page knows no answer yet.
// onOffer(offer) on every newer answer, onState(state) on every change of state. Returns a function that ends it.
export function watch({ url, version, onOffer, onState }) {
  let state = "";
  let source = null;
  let heard = Date.now(); // when the last bytes came
  let failures = 0;
  let isEnded = false; // by who called: nothing is told, asked or waited for any more
  let isClosed = false; // said by the stream just before the answer that it belongs to
  let frames = 0; // answers taken from the stream: a poll that began before one of them is late
  let timers = {};

  function say(next) {
    if (!isEnded && next !== state) onState((state = next));
  }
  const confirmed = () => state === "live" || state === "polling" || state === "reconnecting";

  function later(name, ms, act) {
    clearTimeout(timers[name]);
    if (!isEnded) timers[name] = setTimeout(act, ms);
  }
  function listened() {
    heard = Date.now();
    later("silence", SILENCE_MS, lost);
  }
  function lost() {
    say(navigator.onLine ? "stale" : "offline");
    later("retry", 0, connect);
  }
  function take(offer) {
    if (isEnded || !mayFollow(version, offer.version)) return;
    version = offer.version;
    onOffer(offer);
  }
  function shut() {
    clearTimeout(timers.open);
    clearTimeout(timers.alive);
    if (source) source.close();
    source = null;
    isClosed = false;
  }

  function connect() {
    shut();
    clearTimeout(timers.retry);
    if (!navigator.onLine) return say("offline");
    // Where the answer shown is not confirmed, the whole of it is asked for, not only what is newer.
    const from = version && (confirmed() || state === "connecting") ? `?last_event_id=${encodeURIComponent(version)}` : "";
    const mine = (source = new EventSource(`${url}/events${from}`));
    const on = (name, act) => mine.addEventListener(name, (event) => mine === source && act(event));
    later("open", CONNECT_MS, failed);
    on("open", () => {
      clearTimeout(timers.open);
      listened();
      if (from) later("alive", SETTLE_MS, alive);
    });
    on("closed", () => (isClosed = true));
    on("payment-methods", (event) => {
      frames += 1;
      listened();
      take({ ...JSON.parse(event.data), closed: isClosed });
      isClosed = false;
      if (confirmed()) alive();
      else later("alive", SETTLE_MS, alive);
    });
    on("hb", listened); // proves the way, not the answer: after `stale` the server sends a frame when all is well
    on("stale", () => {
      clearTimeout(timers.alive);
      listened();
      say("stale");
    });
    on("bye", (event) => {
      shut();
      later("retry", JSON.parse(event.data || "{}").retry_ms ?? BASE_MS, connect);
    });
    on("error", failed);
  }
  function alive() {
    failures = 0;
    say("live");
  }
  // EventSource would retry by itself, in step with every other page; we close it and wait a random time.
  async function failed() {
    shut();
    failures += 1;
    if (confirmed() && failures < FAILURES_BEFORE_POLL) say("reconnecting");
    if (failures >= FAILURES_BEFORE_POLL) await poll();
    if (!source) later("retry", delay(failures), connect);
  }
  async function poll() {
    const before = frames;
    try {
      const headers = version ? { "If-None-Match": `"${version}"` } : {};
      const answer = await fetch(url, { headers, cache: "no-store", signal: AbortSignal.timeout(CONNECT_MS) });
      if (answer.status === 404 && before === frames) return say("gone");
      if (answer.status !== 304 && !answer.ok) throw new Error(String(answer.status));
      const closed = answer.headers.get("x-venue") === "closed";
      const offer = answer.status === 304 ? null : { ...(await answer.json()), closed };
      if (before !== frames || state === "offline") return;
      listened();
      if (offer) take(offer);
      say("polling");
    } catch {
      if (confirmed()) say("reconnecting");
    }
  }
  // Back from the background, from the network's absence, from the browser's page cache.
  function resync() {
    failures = 0;
    if (Date.now() - heard > SILENCE_MS) say("stale");
    connect();
  }
  function onVisible() {
    if (document.visibilityState === "visible" && Date.now() - heard > HEARTBEAT_MS) resync();
  }
  function onOffline() {
    shut();
    clearTimeout(timers.retry);
    say("offline");
  }
  function onOnline() {
    if (state === "offline") say("stale");
    resync();
  }
  function onShow(event) {
    if (event.persisted) resync();
  }

  addEventListener("online", onOnline);
  addEventListener("offline", onOffline);
  addEventListener("pageshow", onShow);
  addEventListener("pagehide", shut);
  document.addEventListener("visibilitychange", onVisible);
  say(version ? "connecting" : "stale");
  listened();
  connect();
  return () => {
    isEnded = true;
    shut();
    Object.values(timers).forEach(clearTimeout);
    removeEventListener("online", onOnline);
    removeEventListener("offline", onOffline);
    removeEventListener("pageshow", onShow);
    removeEventListener("pagehide", shut);
    document.removeEventListener("visibilitychange", onVisible);
  };
}

// Read a page again and replace the elements with these ids. False: not possible (signed out, no answer).
export async function renew(address, ...ids) {
  const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(CONNECT_MS) });
  if (!answer.ok || answer.redirected) return false;
  replace(await answer.text(), ...ids);
  return true;
}

// Replace the elements with these ids by those of a page's HTML, where they differ.
export function replace(html, ...ids) {
  const page = new DOMParser().parseFromString(html, "text/html");
  for (const id of ids) {
    const fresh = page.getElementById(id);
    const old = document.getElementById(id);
    if (fresh && old && fresh.innerHTML !== old.innerHTML) old.replaceWith(fresh);
  }
}
