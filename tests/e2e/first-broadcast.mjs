// The first broadcast, as two people would do it: join by the studio in two browsers, see and hear each other, go live, stop.
//
//   GATEWAY_URL=http://127.0.0.1:8080 HOST_URL='http://…/#token=…' MUSICIAN_URL='http://…/#token=…' node first-broadcast.mjs
//
// SECONDS_ON_AIR (20), OUT (out: media and screenshots), CHROMIUM (/usr/bin/chromium), REUSE_MEDIA=1 keeps media made before.
// The last line on stdout is one JSON object with the results; the exit code is 0 only when all of it worked.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { ON_LOOPBACK, launch } from "./browser.mjs";
import { devices, marks, near } from "./clapper.mjs";
import { keepPeers } from "./person.mjs";

const { GATEWAY_URL, HOST_URL, MUSICIAN_URL } = process.env;
const SECONDS = Number(process.env.SECONDS_ON_AIR ?? 20);
const OUT = resolve(process.env.OUT ?? "out");

/** What the host sends. The musician sends files. */
const HOST = { note: 440, levels: [0.25, 0.075], beep: { note: 1760, level: 0.4 }, mark: 0.1, width: 640, height: 360, fps: 30 };

const LARGE = { width: 1280, height: 800 };
const SMALL = { width: 360, height: 480 };

/** Generous: the machine may be building at the same time. */
const PATIENCE_MS = 30_000;

if (!GATEWAY_URL || !HOST_URL || !MUSICIAN_URL) {
  console.error("Set GATEWAY_URL, HOST_URL and MUSICIAN_URL.");
  process.exit(2);
}

const started = Date.now();
const results = { ok: false, step: "media", problems: [] };
const browsers = [];

function step(name) {
  results.step = name;
  console.error(`[${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s] ${name}`);
}

function check(fine, complaint) {
  if (!fine) results.problems.push(complaint);
}

/** One person in a browser of their own, with their own picture and sound. */
async function openPerson(who, url) {
  const browser = await launch(
    ON_LOOPBACK,
    `--use-file-for-fake-video-capture=${OUT}/media/${who}.mjpeg`,
    `--use-file-for-fake-audio-capture=${OUT}/media/${who}.wav`,
  );
  browsers.push(browser);
  const context = await browser.newContext({ permissions: ["camera", "microphone"], viewport: LARGE });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (error) => results.problems.push(`${who}: the page threw ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") console.error(`${who}: console: ${message.text()}`);
  });
  await page.addInitScript(keepPeers);
  if (who === "host") await page.addInitScript(devices, HOST);
  // The host sends pictures in sizes, the musician in layers: the programme has both.
  else await page.addInitScript(() => localStorage.setItem("jamcast.camera.form", "layers"));
  await page.goto(url);
  return { who, page };
}

/**
 * Milliseconds by which a person's beeps come after their flashes at the source, -500 to 500.
 *
 * What a browser does between a sound or picture and its WebRTC sender is its own affair. Whoever measures the programme's A/V offset
 * subtracts this number. `spread_ms` says how steady the beats were; on a busy machine it is large.
 */
async function captureOffset(page, seconds) {
  const { flashes, beeps } = await page.evaluate(marks, { at: [0.5, 0.1], seconds });
  if (flashes.length < 2 || beeps.length < 2) return { ms: null, spread_ms: null, beats: flashes.length };
  // Offsets live on a circle: they are put near the first one before the median is taken.
  const first = near(beeps[1] - flashes[1], 0);
  const pairs = Math.min(flashes.length, beeps.length);
  const offsets = Array.from({ length: pairs }, (_, n) => near(beeps[n] - flashes[n], first)).sort((a, b) => a - b);
  const median = offsets[Math.floor(pairs / 2)];
  return { ms: Math.round(near(median, 0)), spread_ms: Math.round(offsets.at(-1) - offsets[0]), beats: pairs };
}

async function join({ who, page }) {
  await page.getByTestId("level-meter").waitFor();
  const button = page.getByTestId("join-button");
  await page.waitForFunction(() => document.querySelector('[data-testid="join-button"]')?.textContent === "Join", undefined, {
    timeout: PATIENCE_MS,
  });
  check(!page.url().includes("token"), `${who}: the token stayed in the address bar`);
  await page.screenshot({ path: `${OUT}/${who}-1-green-room.png` });
  await button.click();
  await page.locator('[data-testid="room"][data-phase="inside"]').waitFor();
  for (const link of ["signalling", "send"]) {
    await page.locator(`[data-testid="link-${link}"][data-state="up"]`).waitFor();
  }
}

/** What has arrived from the other person so far. */
function received(page) {
  return page.evaluate(async () => {
    const video = document.querySelector('[data-testid="tile"] video');
    const sum = {
      frames: video?.getVideoPlaybackQuality().totalVideoFrames ?? 0,
      width: video?.videoWidth ?? 0,
      height: video?.videoHeight ?? 0,
      energy: 0,
      audioLost: 0,
      audioPackets: 0,
      stereo: false,
      freezes: 0,
      jitterBufferMs: null,
    };
    for (const pc of window.peers) {
      if (pc.connectionState === "closed") continue;
      sum.stereo ||= /a=fmtp:\d+ [^\r\n]*\bstereo=1/.test(pc.remoteDescription?.sdp ?? "");
      for (const report of (await pc.getStats()).values()) {
        if (report.type !== "inbound-rtp") continue;
        if (report.kind === "audio") {
          sum.energy += report.totalAudioEnergy ?? 0;
          sum.audioLost += report.packetsLost ?? 0;
          sum.audioPackets += report.packetsReceived ?? 0;
          if (report.jitterBufferEmittedCount > 0) {
            sum.jitterBufferMs = Math.round((report.jitterBufferDelay / report.jitterBufferEmittedCount) * 1000);
          }
        } else {
          sum.freezes += report.freezeCount ?? 0;
        }
      }
    }
    return sum;
  });
}

/** Watches for `seconds`, then says what came in that time. */
async function seesAndHears({ who, page }, seconds) {
  await page.locator('[data-testid="tile"] video').first().waitFor();
  await page.locator('[data-testid="link-recv"][data-state="up"]').waitFor();
  await page.waitForFunction(() => document.querySelector('[data-testid="tile"] video')?.videoWidth > 0);
  const before = await received(page);
  await page.waitForTimeout(seconds * 1000);
  const after = await received(page);
  const fps = (after.frames - before.frames) / seconds;
  const energy = after.energy - before.energy;
  check(fps >= 10, `${who}: only ${fps.toFixed(1)} frames a second of the other's picture arrived`);
  check(energy > 0.001, `${who}: the other's sound is silent (energy ${energy})`);
  check(after.stereo, `${who}: stereo Opus was not negotiated`);
  return { fps: Number(fps.toFixed(1)), energy: Number(energy.toFixed(4)), ...after };
}

async function goLive(page) {
  await page.getByTestId("title").fill("The first broadcast");
  const pressed = Date.now();
  await page.getByTestId("go-live").click();
  await page.locator('[data-testid="status"][data-state="live"]').waitFor();
  return Date.now() - pressed;
}

async function readStatus(page) {
  const text = (id) => page.getByTestId(id).first().textContent();
  return {
    duration: await text("duration"),
    fps: Number(await text("fps")),
    bitrate: await text("bitrate"),
    dropped: Number(await text("dropped")),
    musicians: Number(await text("musicians")),
    destinations: await page
      .getByTestId("destination-status")
      .evaluateAll((items) => items.map((item) => ({ state: item.dataset.state, text: item.innerText.replace(/\s+/g, " ") }))),
  };
}

async function main() {
  mkdirSync(`${OUT}/media`, { recursive: true });
  if (!(process.env.REUSE_MEDIA && existsSync(`${OUT}/media/musician.wav`))) {
    execFileSync(fileURLToPath(new URL("make-media.sh", import.meta.url)), [`${OUT}/media`], { stdio: "inherit" });
  }
  step("gateway");
  const alive = await fetch(new URL("/livez", GATEWAY_URL));
  if (!alive.ok) throw new Error(`the gateway is not alive: ${alive.status}`);

  step("join");
  const host = await openPerson("host", HOST_URL);
  const musician = await openPerson("musician", MUSICIAN_URL);
  await join(host);
  await join(musician);

  step("see and hear each other");
  [results.host_receives, results.musician_receives] = await Promise.all([seesAndHears(host, 3), seesAndHears(musician, 3)]);
  results.host_capture_offset = await captureOffset(host.page, 6);
  await host.page.screenshot({ path: `${OUT}/host-2-room.png` });
  await musician.page.screenshot({ path: `${OUT}/musician-2-room.png` });

  step("go live");
  results.live_after_ms = await goLive(host.page);
  results.live_at = new Date().toISOString();

  step("on air");
  await host.page.screenshot({ path: `${OUT}/host-3-on-air.png` });
  // Nobody looks now, and two browsers that draw by software leave a small machine no time to send pictures.
  for (const { page } of [host, musician]) await page.setViewportSize(SMALL);
  await host.page.waitForTimeout(SECONDS * 1000);
  results.status = await readStatus(host.page);
  check(results.status.fps >= 27, `the programme has ${results.status.fps} frames a second`);
  check(results.status.musicians === 2, `${results.status.musicians} musicians are in the programme`);
  check(results.status.destinations.length > 0, "the broadcast has no destination");
  for (const { state, text } of results.status.destinations) check(state === "live", `a destination is not live: ${text}`);

  step("stop");
  const recordingsBefore = await host.page.getByTestId("recording").count();
  await host.page.getByTestId("stop").click();
  await host.page.getByTestId("confirm-stop").click();
  await host.page.getByTestId("go-live").waitFor();
  // Not before: a page that is laid out anew paints its flashes late.
  for (const { page } of [host, musician]) await page.setViewportSize(LARGE);
  await host.page
    .waitForFunction((n) => document.querySelectorAll('[data-testid="recording"]').length > n, recordingsBefore, { timeout: 10_000 })
    .catch(() => check(false, "no recording appeared in the studio"));
  results.recordings = (await host.page.getByTestId("recording").count()) - recordingsBefore;
  await host.page.screenshot({ path: `${OUT}/host-5-stopped.png` });

  step("leave");
  for (const { page } of [host, musician]) {
    await page.getByTestId("leave").click();
    await page.getByTestId("rejoin").waitFor();
  }
  step("done");
}

try {
  await main();
} catch (error) {
  results.problems.push(`${results.step}: ${error.message}`);
  for (const [index, browser] of browsers.entries()) {
    const page = browser.contexts()[0]?.pages()[0];
    await page?.screenshot({ path: `${OUT}/failure-${index}.png` }).catch(() => undefined);
  }
} finally {
  for (const browser of browsers) await browser.close().catch(() => undefined);
}
results.ok = results.step === "done" && results.problems.length === 0;
console.log(JSON.stringify(results));
process.exit(results.ok ? 0 : 1);
