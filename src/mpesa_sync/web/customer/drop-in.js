// mpesa-sync drop-in 1: what a venue's customers may pay with now, on any page. Obeys the contract of live.js.
// Served dense (web/drop_in.py): a comment has a line of its own, and no text has a space beside a sign.
(() => {
  if (window.mpesaSync) return;
  const FILE = "/drop-in/v1.js";
  const HOME = (document.currentScript ?? document.querySelector(`script[src*="${FILE}"]`))?.src.split(FILE)[0];
  const TEXTS = {};
  const isMpesa = ({ id }) => id === "mpesa";

  // Follow a bar: onChange({ state, methods, mpesa }) says now, and whenever it changes, what may be offered.
  // States: connecting, live, polling, reconnecting, stale, offline, gone. Returns a function that ends it.
  function watch({ bar, server = HOME, onChange }) {
    const url = `${server}/api/bars/${encodeURIComponent(bar)}/payment-methods`;
    const life = new AbortController();
    const timers = {};
    let state, offer, source, heard, isDue;
    let failures = 0;
    let frames = 0;

    const isSure = () => offer && /live|poll|rec/.test(state);
    const on = (target, name, act) => target.addEventListener(name, act, life);
    const clear = (...names) => names.forEach((name) => clearTimeout(timers[name]));
    function later(name, ms, act) {
      clear(name);
      if (!life.signal.aborted) timers[name] = setTimeout(act, ms);
    }
    // What comes together is told once; an error of the page's own stays its own.
    function tell() {
      if (!isDue) queueMicrotask(told);
      isDue = true;
    }
    function told() {
      isDue = false;
      const known = offer?.methods ?? (state === "gone" ? [] : [{ id: "cash", label: TEXTS.cash }]);
      const methods = state === "connecting" ? [] : known.filter((one) => isSure() || !isMpesa(one));
      if (!life.signal.aborted) onChange({ state, methods, mpesa: methods.some(isMpesa) });
    }
    function say(next) {
      if (next !== state) tell((state = next));
    }
    function listened() {
      heard = Date.now();
      later("silence", 40_000, resync);
    }
    function take(next) {
      const [mine, its] = [offer ?? next, next].map(({ version }) => version.split(/:(?=\d+$)/));
      if (offer && mine[0] === its[0] && +its[1] <= +mine[1]) return;
      tell((offer = next));
    }
    function shut() {
      clear("open", "alive", "retry");
      source = source?.close();
    }
    function alive() {
      failures = 0;
      say("live");
    }
    function connect() {
      shut();
      if (!navigator.onLine) return say("offline");
      const from = isSure() ? `?last_event_id=${encodeURIComponent(offer.version)}` : "";
      const mine = (source = new EventSource(`${url}/events${from}`));
      function hear(name, act) {
        on(mine, name, ({ data }) => {
          if (mine !== source) return;
          clear("open");
          listened();
          act?.(data);
        });
      }
      later("open", 10_000, failed);
      hear("open", () => from && later("alive", 50, alive));
      hear("payment-methods", (data) => {
        frames += 1;
        const wasSure = isSure();
        take(JSON.parse(data));
        if (wasSure) alive();
        else later("alive", 50, alive);
      });
      hear("hb");
      hear("stale", () => {
        clear("alive");
        say("stale");
      });
      hear("bye", (data) => {
        shut();
        later("retry", JSON.parse(data).retry_ms, connect);
      });
      on(mine, "error", () => mine === source && failed());
    }
    async function failed() {
      shut();
      failures += 1;
      if (isSure() && failures < 3) say("reconnecting");
      if (failures > 2 || !offer) await poll(frames);
      if (!source) later("retry", Math.random() * Math.min(15_000, 1_000 * 2 ** failures), connect);
    }
    async function poll(before) {
      try {
        const answer = await fetch(url, { cache: "no-cache", signal: AbortSignal.timeout(10_000) });
        const next = answer.ok && (await answer.json());
        if (before !== frames || state === "offline") return;
        if (answer.status === 404) return say("gone");
        take(next);
        listened();
        say("polling");
      } catch {
        if (isSure()) say("reconnecting");
        else if (state === "connecting") say("stale");
      }
    }
    function resync() {
      failures = 0;
      if (state === "offline" || Date.now() - heard > 39_999) say("stale");
      connect();
    }

    on(window, "online", resync);
    on(window, "offline", connect);
    on(window, "pagehide", shut);
    on(window, "pageshow", ({ persisted }) => persisted && resync());
    on(document, "visibilitychange", () => document.hidden || Date.now() - heard < 20_000 || resync());
    say("connecting");
    listened();
    connect();
    return () => {
      life.abort();
      shut();
      clear("silence");
    };
  }

  // <mpesa-methods bar="slug">: radio buttons of the page's own form and style, and a line that says what has changed.
  class Methods extends HTMLElement {
    static observedAttributes = ["bar"];
    list = document.createElement("div");
    line = document.createElement("p");
    connectedCallback() {
      this.disconnectedCallback();
      this.stop = watch({ bar: this.getAttribute("bar"), onChange: (change) => this.show(change) });
    }
    disconnectedCallback() {
      this.stop = this.stop?.();
    }
    attributeChangedCallback() {
      if (this.stop) this.connectedCallback();
    }
    show(detail) {
      const { list, line } = this;
      const { state, methods } = detail;
      const text = (key) => this.getAttribute(`text-${key}`) ?? TEXTS[key];
      const said = [];
      if (state !== "connecting" && !list.isConnected) {
        Object.assign(list, { role: "radiogroup", ariaLabel: text("label"), tabIndex: -1 });
        line.role = "status";
        this.replaceChildren(list, line);
      }
      for (const item of [...list.children]) {
        if (methods.some(({ id }) => id === item.control.value)) continue;
        if (item.control.checked) said.push(text("gone").replace("{method}", item.textContent));
        if (item.contains(document.activeElement)) list.focus();
        item.remove();
      }
      methods.forEach(({ id, label }, place) => {
        const there = list.children[place];
        if (there?.control.value === id) return;
        const [item, input] = ["label", "input"].map((name) => document.createElement(name));
        Object.assign(input, { type: "radio", name: this.getAttribute("name") ?? "payment-method", value: id });
        item.append(input, label);
        list.insertBefore(item, there ?? null);
      });
      if (/stale|offline/.test(state)) said.push(text("unsure"));
      if (!methods[0]) said.push(text("none"));
      line.textContent = said.join(" ");
      this.dataset.state = state;
      this.dispatchEvent(new CustomEvent("mpesa-methods", { bubbles: true, detail }));
    }
  }
  window.mpesaSync = { watch };
  customElements.define("mpesa-methods", Methods);
})();
