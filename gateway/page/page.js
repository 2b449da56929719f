"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const live = $("live"), told = $("told");

  // span says a time in words that are short enough for a card.
  const span = (ms) => {
    const s = Math.max(0, Math.round(ms / 1000));
    if (s < 90) return s + " s";
    if (s < 5400) return Math.round(s / 60) + " min";
    if (s < 129600) return Math.round(s / 3600) + " h";
    return Math.round(s / 86400) + " days";
  };
  const times = (root) => {
    const now = Date.now();
    for (const t of root.querySelectorAll("time[data-ago]")) t.textContent = span(now - Date.parse(t.dataset.ago)) + " ago";
    for (const t of root.querySelectorAll("time[data-in]")) {
      const left = Date.parse(t.dataset.in) - now;
      t.textContent = left > 0 ? "in " + span(left) : "now";
    }
  };
  const clock = () => times(document);

  // replace puts new content into an element and leaves focus and open parts as they are.
  const replace = (el, html) => {
    const focused = el.contains(document.activeElement) ? document.activeElement : null;
    const mark = focused && (focused.dataset.action || focused.tagName);
    const open = [...el.querySelectorAll("details")].map((d) => d.open);
    el.innerHTML = html;
    [...el.querySelectorAll("details")].forEach((d, i) => { d.open = !!open[i]; });
    if (mark) {
      const next = [...el.querySelectorAll("button,summary,[tabindex]")].find((e) => (e.dataset.action || e.tagName) === mark);
      if (next) next.focus();
    }
    times(el);
  };

  const cards = (ids) => {
    const box = $("cards"), want = new Set(ids), focused = document.activeElement;
    for (const el of [...box.children]) if (!want.has(el.id)) el.remove();
    ids.forEach((id, i) => {
      let el = $(id);
      if (!el) {
        el = document.createElement("article");
        el.id = id;
        el.setAttribute("aria-labelledby", "name-" + id.slice("card-".length));
        if (pending.has(id)) el.innerHTML = pending.get(id);
      }
      if (box.children[i] !== el) box.insertBefore(el, box.children[i] || null);
    });
    if (focused && focused !== document.activeElement && box.contains(focused)) focused.focus({ preventScroll: true });
  };
  const pending = new Map();

  const watch = () => {
    const events = new EventSource("status/events");
    events.onopen = () => { live.textContent = "Live."; };
    events.onmessage = (e) => {
      const parts = JSON.parse(e.data);
      for (const p of parts) if (p.id.startsWith("card-")) pending.set(p.id, p.html);
      for (const p of parts) if (p.id === "cards") cards(p.html ? p.html.split(" ") : []);
      for (const p of parts) {
        const el = p.id === "cards" ? null : $(p.id);
        if (el) replace(el, p.html);
      }
    };
    events.onerror = () => {
      live.textContent = "The gateway does not answer; what you see may be old. Trying again.";
      if (events.readyState === EventSource.CLOSED) setTimeout(watch, 2000);
    };
  };

  let hush;
  const tell = (text) => {
    told.textContent = text;
    clearTimeout(hush);
    hush = setTimeout(() => { told.textContent = ""; }, 6000);
  };
  document.addEventListener("click", async (e) => {
    const b = e.target.closest("button[data-action]");
    if (!b) return;
    const { action, circuit } = b.dataset;
    if (action === "isolate" && !confirm("Refuse all calls to " + circuit + " until it is reset?")) return;
    try {
      const r = await fetch("-/circuit", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ name: circuit, action }) });
      tell(r.ok ? circuit + ": " + action + " done" : (await r.text()).trim());
    } catch (err) {
      tell("The gateway does not answer: " + err.message);
    }
  });

  clock();
  setInterval(clock, 1000);
  watch();
})();
