// The status page in a real browser. The driver (main.go) starts a gateway and gives the addresses; this looks at the page and says what it
// found, one line each: "passed …" or "FAILED …".
import { readFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.MODULES, "x.js"));
const sparticuz = (await import(require.resolve("@sparticuz/chromium"))).default;
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const { GATEWAY, CONTROL, SHOTS } = process.env;
mkdirSync(SHOTS, { recursive: true });

let failed = 0;
const say = (ok, text) => {
  if (!ok) failed++;
  console.log((ok ? "passed " : "FAILED ") + text);
};

const browser = await chromium.launch({ executablePath: await sparticuz.executablePath(), args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb"], headless: true });
console.log("Chromium " + browser.version());

const open = async (options = {}) => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (e) => faults.push(String(e)));
  page.on("console", (m) => { if (m.type() === "error") faults.push(m.text()); });
  const requests = [];
  page.on("request", (r) => requests.push(r.url()));
  await page.goto(GATEWAY + "/status");
  return { page, faults, requests };
};

const violations = async (page) => {
  const found = await page.evaluate(async (source) => {
    // A page's policy forbids scripts from elsewhere; the test puts its own into the page's world.
    (0, eval)(source);
    return (await window.axe.run()).violations.map((v) => v.id + ": " + v.nodes.map((n) => n.target.join(" ")).slice(0, 3).join(", "));
  }, axe);
  return found;
};

const control = async (what) => {
  const r = await fetch(CONTROL + what, { method: "POST" });
  if (!r.ok) throw new Error(what + ": " + (await r.text()));
};

// What the page shows, with and without scripts, light and dark, on a large and a small screen.
for (const [name, options] of Object.entries({
  light: { colorScheme: "light" },
  dark: { colorScheme: "dark" },
  phone: { colorScheme: "light", viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true },
})) {
  const { page, faults, requests } = await open({ ...options, bypassCSP: true });
  await page.waitForFunction(() => document.getElementById("live").textContent === "Live.");
  const found = await violations(page);
  say(found.length === 0, `${name}: axe finds no violation` + (found.length ? ": " + found.join("; ") : ""));
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  say(wide <= 0, `${name}: nothing is wider than the screen (${wide} px)`);
  say(faults.length === 0, `${name}: no error in the console` + (faults.length ? ": " + faults.join("; ") : ""));
  const elsewhere = requests.filter((u) => !u.startsWith(GATEWAY) && !u.startsWith("data:"));
  say(elsewhere.length === 0, `${name}: nothing is loaded from elsewhere (${requests.length} requests)`);
  await page.screenshot({ path: join(SHOTS, name + ".png"), fullPage: name !== "phone" });
  await page.context().close();
}

{
  const { page } = await open({ javaScriptEnabled: false });
  const cards = await page.locator("article").count();
  const rows = await page.locator("article table.facts tr").count();
  const first = await page.locator("article").first().innerText();
  say(cards === 51 && rows >= cards * 4, `without JavaScript: ${cards} servers with ${rows} figures in tables`);
  say(/last|works|away/.test(first), "without JavaScript: the state is there in words");
  await page.screenshot({ path: join(SHOTS, "noscript.png") });
  await page.context().close();
}

// Changes of a real circuit are seen within a second of the gateway's knowing.
{
  const { page, faults } = await open();
  await page.waitForFunction(() => document.getElementById("live").textContent === "Live.");
  const state = page.locator("#card-flaky .state").first();
  const seen = async (step, what, want) => {
    await control(what);
    const since = Date.now();
    await page.waitForFunction((w) => new RegExp(w).test(document.querySelector("#card-flaky .state").textContent), want, { timeout: 15000, polling: 20 });
    const took = Date.now() - since;
    say(took <= 1000, `${step}: shown ${took} ms after it was known (${await state.innerText()})`);
  };
  await seen("server killed, circuit opens", "/break", "circuit open|away");
  await page.screenshot({ path: join(SHOTS, "open.png") });
  say(/refused|connect|away/i.test(await page.locator("#card-flaky .error").innerText()), "the last error is told in words");
  say((await page.locator("#card-flaky .retry").count()) === 1, "the next attempt is announced");
  await seen("server back, circuit closes", "/mend", "works");
  // With the keyboard alone: to the button, press it, and the focus stays.
  page.on("dialog", (d) => d.accept());
  await page.locator('#card-flaky button[data-action="isolate"]').focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => /isolated/.test(document.querySelector("#card-flaky .state").textContent));
  const focus = await page.evaluate(() => document.activeElement.dataset.action + " " + document.activeElement.closest("article").id);
  say(focus === "isolate card-flaky", `isolate by keyboard, the focus stays (${focus})`);
  await page.locator('#card-flaky button[data-action="reset"]').click();
  await page.waitForFunction(() => /works/.test(document.querySelector("#card-flaky .state").textContent));
  say(true, "reset by the mouse");
  await page.locator("#card-flaky details summary", { hasText: "Policy" }).click();
  await control("/call");
  await page.waitForTimeout(1500);
  say(await page.locator("#card-flaky details", { hasText: "circuit_breaker" }).evaluate((d) => d.open), "an opened part stays open when the card changes");
  say(faults.length === 0, "no error in the console" + (faults.length ? ": " + faults.join("; ") : ""));
  await page.context().close();
}

// Fifty servers of which one changes all the time: the page has to stay smooth.
{
  const { page } = await open();
  await page.waitForFunction(() => document.getElementById("live").textContent === "Live.");
  const stop = { now: false };
  const load = (async () => { while (!stop.now) await control("/call"); })();
  const long = await page.evaluate(() => new Promise((done) => {
    let worst = 0, sum = 0;
    new PerformanceObserver((l) => { for (const e of l.getEntries()) { worst = Math.max(worst, e.duration); sum += e.duration; } }).observe({ entryTypes: ["longtask"] });
    setTimeout(() => done({ worst, sum }), 5000);
  }));
  stop.now = true;
  await load;
  say(long.worst <= 200 && long.sum <= 1000, `50 servers under load for 5 s: longest task ${Math.round(long.worst)} ms, ${Math.round(long.sum)} ms of long tasks in all`);
  await page.context().close();
}

await browser.close();
process.exit(failed ? 1 : 0);
