// The picture of the README: the page as it is, light, in a window of the usual size.
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.MODULES, "x.js"));
const sparticuz = (await import(require.resolve("@sparticuz/chromium"))).default;
const { chromium } = require("playwright-core");
const browser = await chromium.launch({ executablePath: await sparticuz.executablePath(), args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb"], headless: true });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
const page = await context.newPage();
await page.goto(process.env.GATEWAY + "/status");
await page.waitForFunction(() => document.getElementById("live").textContent === "Live.");
await page.waitForTimeout(1500);
await page.screenshot({ path: process.env.FILE });
await browser.close();
