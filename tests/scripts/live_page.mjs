// The live page of `sextant watch --http` in a real browser, at the width of a desk and of a phone.
//
//     npm install playwright-core axe-core        # anywhere; Debian: apt-get install chromium ffmpeg
//     NODE_PATH=node_modules node tests/scripts/live_page.mjs target/release/sextant VIDEO OUT
//
// VIDEO is what ffmpeg reads, best with cars in it; screenshots go to the folder OUT, to be looked at.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(join(process.env.NODE_PATH || "node_modules", "x.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const [binary, video, out] = process.argv.slice(2);
assert(out, "usage: live_page.mjs SEXTANT VIDEO OUT");
mkdirSync(out, { recursive: true });
const home = mkdtempSync(join(tmpdir(), "live-page-"));
const children = [];

/** Starts a watch of the video, played over and over at ten frames a second; gives its address. */
async function watch(name, labels, ...more) {
  const feed = ["-loglevel", "error", "-re", "-stream_loop", "-1", "-i", video];
  const ffmpeg = spawn("ffmpeg", [...feed, "-r", "10", "-f", "mjpeg", "-q:v", "4", "-"], { stdio: ["ignore", "pipe", "inherit"] });
  const run = ["watch", "-", "--labels", labels, "--http", "127.0.0.1:0", ...more];
  const sextant = spawn(binary, run, { stdio: [ffmpeg.stdout, "ignore", "pipe"] });
  children.push(ffmpeg, sextant);
  for await (const line of createInterface({ input: sextant.stderr })) {
    const address = line.match(/live page at (\S+)/);
    if (address) return { address: address[1], sextant, ffmpeg };
    console.log(`${name}: ${line}`);
  }
  throw new Error(`${name} ended before it had a page`);
}

const problems = [];

async function open(browser, options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (message) => {
    // Answers that are errors on purpose, and the watch that is ended, are logged as well.
    if (message.type() === "error" && !/status of (4\d\d|503)|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE/.test(message.text())) problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  return page;
}

/** Nothing that a machine can find wrong with the page for people who do not see it. */
async function accessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const found = violations.map((v) => `${v.id}: ${v.nodes.map((node) => node.html).join(" | ")}`);
  assert.deepEqual(found, [], `${what}: axe finds nothing`);
}

const steps = [];
async function step(what, work) {
  await work();
  steps.push(what);
  console.log(`ok: ${what}`);
}

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox"] });
try {
  const index = join(home, "seen.index");
  const { address, ffmpeg } = await watch("open", "a car,an empty car park", "--index", index, "--thumbnails");
  const desk = await open(browser, { viewport: { width: 1280, height: 900 }, colorScheme: "light" });
  await desk.goto(address);

  await step("the picture lives", async () => {
    await desk.waitForFunction(() => document.getElementById("picture").naturalWidth > 0, null, { timeout: 15000 });
    const before = await desk.locator("#picture").getAttribute("src");
    await desk.waitForFunction((old) => document.getElementById("picture").src !== old, before);
    await desk.locator("#status.live").waitFor();
  });
  await step("scores are shown with their labels", async () => {
    await desk.locator(".score .name", { hasText: "an empty car park" }).waitFor();
    assert.match(await desk.locator(".score .value").first().textContent(), /^\d+ %$/);
  });
  await step("events are logged as they happen", async () => {
    await desk.locator("#events li").nth(2).waitFor({ timeout: 60000 });
    assert.match(await desk.locator("#events li").first().textContent(), /(came|left)/);
  });
  await desk.screenshot({ path: join(out, "desk-light.png"), fullPage: true });
  await step("axe finds nothing on a desk", () => accessible(desk, "desk"));

  await step("labels that are typed take effect at once", async () => {
    await desk.getByLabel("What to look for").fill("a red car\na white car\nan empty road\n!trees");
    const begun = Date.now();
    await desk.keyboard.press("Control+Enter");
    await desk.locator(".score .name", { hasText: "a white car" }).waitFor({ timeout: 30000 });
    await desk.waitForFunction(() => [...document.querySelectorAll(".score .value")].some((v) => v.textContent));
    console.log(`    ${Date.now() - begun} ms from Enter to the new scores`);
    assert.equal(await desk.locator(".score:visible").count(), 3, "the negative is not shown");
    assert.match(await desk.locator("#typed-done").textContent(), /4 labels/);
  });
  await step("wrong labels say what is wrong", async () => {
    for (const [typed, says] of [["", /at least one label/], ["!a", /at least one label/], ["unknown", /another name/], ["x".repeat(101), /too long/]]) {
      await desk.getByLabel("What to look for").fill(typed);
      await desk.getByRole("button", { name: "Watch for these" }).click();
      await desk.locator("#typed-error", { hasText: says }).waitFor();
      assert.equal(await desk.locator("#typed").getAttribute("aria-invalid"), "true");
    }
    await desk.screenshot({ path: join(out, "desk-wrong.png"), fullPage: true });
    await desk.getByRole("button", { name: "Undo changes" }).click();
    assert.equal(await desk.locator("#typed").inputValue(), "a red car\na white car\nan empty road\n!trees");
    assert.equal(await desk.locator("#typed-error").textContent(), "");
  });
  await step("what was kept is found, with pictures", async () => {
    await desk.waitForTimeout(6000);
    await desk.getByLabel("Search for").fill("a red car - \"an empty road\"");
    await desk.keyboard.press("Enter");
    await desk.locator("#found li").nth(3).waitFor({ timeout: 30000 });
    await desk.locator("#found img").first().scrollIntoViewIfNeeded();
    await desk.waitForFunction(() => document.querySelector("#found img").naturalWidth > 100);
    await desk.getByRole("button", { name: /More like this: number 1,/ }).click();
    await desk.locator("#found-count", { hasText: "more like" }).waitFor();
    await desk.getByLabel("Search for").fill("a + ");
    await desk.getByRole("button", { name: "Search" }).click();
    await desk.locator("#find-error", { hasText: "nothing follows" }).waitFor();
    await desk.getByLabel("Search for").fill("/etc/hostname.jpg");
    await desk.keyboard.press("Enter");
    await desk.locator("#found-count", { hasText: "kept frames" }).waitFor();
    await desk.screenshot({ path: join(out, "desk-search.png"), fullPage: true });
    await accessible(desk, "search");
  });
  await step("all of it is reached by keyboard", async () => {
    await desk.reload();
    await desk.locator(".score").first().waitFor();
    const reached = [];
    for (let i = 0; i < 16; i += 1) {
      await desk.keyboard.press("Tab");
      reached.push(await desk.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim()));
    }
    for (const wanted of ["Skip to the labels", "pause", "full", "typed", "Watch for these", "log", "query", "since", "metrics"]) {
      assert(reached.includes(wanted), `${wanted} among ${reached}`);
    }
    await desk.locator("#pause").focus();
    await desk.keyboard.press("Space");
    assert.equal(await desk.locator("#pause").getAttribute("aria-pressed"), "true");
    await desk.waitForTimeout(500);
    const still = await desk.locator("#picture").getAttribute("src");
    await desk.waitForTimeout(700);
    assert.equal(await desk.locator("#picture").getAttribute("src"), still, "paused");
  });

  const phone = await open(browser, { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, colorScheme: "dark", reducedMotion: "reduce" });
  await step("it fits a phone, in the dark, without motion", async () => {
    await phone.goto(address);
    await phone.locator(".score .value", { hasText: "%" }).first().waitFor();
    await phone.waitForFunction(() => document.getElementById("picture").naturalWidth > 0);
    await phone.getByLabel("Search for").fill("a car");
    await phone.getByRole("button", { name: "Search" }).tap();
    await phone.locator("#found img").nth(1).waitFor({ timeout: 30000 });
    assert.equal(await phone.evaluate(() => document.documentElement.scrollWidth), 390, "no sideways scrolling");
    assert.equal(await phone.evaluate(() => getComputedStyle(document.querySelector(".bar i")).transitionDuration), "0s");
    const small = await phone.locator("button:visible").evaluateAll((all) => all.filter((b) => b.getBoundingClientRect().height < 34).length);
    assert.equal(small, 0, "buttons are large enough for a finger");
    await phone.evaluate(() => scrollTo(0, 0));
    await phone.screenshot({ path: join(out, "phone-dark.png"), fullPage: true });
    await accessible(phone, "phone");
  });
  await step("names of labels are text, not markup", async () => {
    await phone.getByLabel("What to look for").fill("<img src=x onerror=alert(1)>\na car");
    await phone.getByRole("button", { name: "Watch for these" }).tap();
    await phone.locator(".score .name", { hasText: "onerror" }).waitFor({ timeout: 30000 });
    assert.equal(await phone.locator("#regions img").count(), 0);
  });
  await step("a camera that stops is said to have stopped", async () => {
    ffmpeg.kill();
    await phone.locator("#status", { hasText: /ended|no connection|no frames/ }).waitFor({ timeout: 20000 });
    await phone.screenshot({ path: join(out, "phone-ended.png") });
  });

  const token = join(home, "token");
  writeFileSync(token, "0123456789abcdef0123456789abcdef\n");
  const closed = await watch("closed", "a car,an empty car park", "--roi", "left=0,0,0.5,1.0", "--roi", "right=0.5,0,0.5,1.0", "--http-token-file", token);
  const guest = await open(browser, { viewport: { width: 768, height: 900 }, colorScheme: "dark" });
  await step("a token is asked for, once", async () => {
    await guest.goto(closed.address);
    await guest.getByLabel("Token of this camera").fill("wrong");
    await guest.keyboard.press("Enter");
    await guest.getByRole("alert").waitFor();
    await guest.screenshot({ path: join(out, "login.png") });
    await accessible(guest, "login");
    await guest.getByLabel("Token of this camera").fill("0123456789abcdef0123456789abcdef");
    await guest.keyboard.press("Enter");
    await guest.locator(".score .value", { hasText: "%" }).first().waitFor();
    await guest.goto(closed.address);
    await guest.getByRole("heading", { name: "right" }).waitFor();
    assert.equal(await guest.locator("#search").isVisible(), false, "nothing is kept, so nothing is searched");
    await guest.waitForFunction(() => document.getElementById("picture").naturalWidth > 0);
    await guest.screenshot({ path: join(out, "tablet-regions.png"), fullPage: true });
  });
  assert.deepEqual(problems, [], "the browser complained about nothing");
  console.log(`${steps.length} steps, screenshots in ${out}`);
} finally {
  await browser.close();
  children.forEach((child) => child.kill());
}
process.exit();
