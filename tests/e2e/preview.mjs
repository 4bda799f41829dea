// A host sees and hears the broadcast in the studio as it leaves the encoder, with a musician in it.
//
//   GATEWAY_URL=http://127.0.0.1:8080 HOST_TOKEN=… node preview.mjs
//
// OUT (out: a screenshot). The last line on stdout is one JSON object with the results; the exit code is 0 only when all of it worked.
import { mkdirSync } from "node:fs";
import { resolve } from "node:path";

import { ON_LOOPBACK, launch } from "./browser.mjs";
import { devices, marks, near } from "./clapper.mjs";
import { invitation } from "./gateway.mjs";

const { GATEWAY_URL, HOST_TOKEN } = process.env;
const OUT = resolve(process.env.OUT ?? "out");
const PATIENCE_MS = 30_000;

/** Each plays one note; the host's picture flashes and their sound beeps once a second besides. */
const HOST = { note: 440, levels: [0.1, 0.1], beep: { note: 1760, level: 0.5 }, mark: 0.2, width: 320, height: 180, fps: 30 };
const MUSICIAN = { ...HOST, note: 660, beep: null, width: 160, height: 90, fps: 5 };
/** Where nobody plays. */
const NOBODY = 550;

/** Sound may come so much before and after its picture, milliseconds: what viewers accept (ITU-R BT.1359-1, figure 2). */
const MOST_EARLY_MS = 90;
const MOST_LATE_MS = 185;
const MOST_DELAY_MS = 1500;
const SECONDS = 16;

const results = { problems: [] };
function check(fine, complaint) {
  if (!fine) results.problems.push(complaint);
}

/** In the page: levels of frequencies in the preview, dB. */
async function levels(hertz) {
  const { srcObject } = document.querySelector('[data-testid="programme-preview"] video');
  const audio = new AudioContext({ sampleRate: 48000 });
  const analyser = new AnalyserNode(audio, { fftSize: 16_384, smoothingTimeConstant: 0.5 });
  audio.createMediaStreamSource(srcObject).connect(analyser);
  await new Promise((done) => setTimeout(done, 1500));
  const spectrum = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(spectrum);
  await audio.close();
  return hertz.map((each) => Math.round(Math.max(...spectrum.slice(...[-1, 2].map((n) => Math.round((each * 16_384) / 48_000) + n)))));
}

function median(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? null;
}

/**
 * By how much beeps come after flashes, ms. Both come once a second, and a page that is busy only ever sees them late: of the marks of
 * a kind the one a quarter from the earliest counts.
 */
function lateness({ flashes, beeps }) {
  if (flashes.length < 4 || beeps.length < 4) return { ms: null, beats: Math.min(flashes.length, beeps.length) };
  const phase = (marks) => marks.map((at) => near(at, marks[1])).toSorted((a, b) => a - b)[Math.floor(marks.length / 4)];
  return { ms: Math.round(near(phase(beeps) - phase(flashes), 0)), beats: Math.min(flashes.length, beeps.length) };
}

async function enter(browser, who, url) {
  const context = await browser.newContext({ permissions: ["camera", "microphone"], viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (error) => results.problems.push(`the page threw ${error.message}`));
  await page.addInitScript(devices, who);
  await page.goto(url);
  await page.waitForFunction(() => document.querySelector('[data-testid="join-button"]')?.textContent === "Join");
  await page.getByTestId("join-button").click();
  await page.locator('[data-testid="room"][data-phase="inside"]').waitFor();
  return page;
}

async function main(browser) {
  await enter(browser, MUSICIAN, await invitation("Grace", "musician"));
  const page = await enter(browser, HOST, `${GATEWAY_URL}/#token=${HOST_TOKEN}`);
  await page.locator('[data-testid="tile"] video').first().waitFor();
  await page.getByTestId("go-live").click();
  await page.locator('[data-testid="status"][data-state="live"]').waitFor();

  await page.getByTestId("watch-programme").click();
  await page.waitForFunction(() => document.querySelector('[data-testid="programme-preview"] video')?.videoWidth > 0);
  await page.waitForFunction(
    () => document.querySelector('[data-testid="programme-preview"] video')?.srcObject?.getAudioTracks().length === 1,
  );
  const muted = () => page.locator('[data-testid="programme-preview"] video').evaluate((video) => video.muted);
  check(await muted(), "the preview is heard before anybody asked for it");
  await page.getByTestId("hear-programme").click();
  check(!(await muted()), "the preview is not heard by whoever wants to");
  await page.getByTestId("programme-preview").scrollIntoViewIfNeeded();
  await page.screenshot({ path: `${OUT}/preview.png` });

  const [host, musician, nobody] = await page.evaluate(levels, [HOST.note, MUSICIAN.note, NOBODY]);
  results.levels_db = { host, musician, nobody };
  check(Math.min(host, musician) > nobody + 20, `notes at ${host} and ${musician} dB beside ${nobody} dB where nobody plays`);

  // Sound and picture are brought together by the reports of the first seconds.
  await page.waitForTimeout(6000);
  const where = { seconds: SECONDS, at: [0.75, 0.35] };
  const [sent, seen] = await Promise.all([
    page.evaluate(marks, where),
    page.evaluate(marks, { ...where, shown: '[data-testid="programme-preview"] video' }),
  ]);
  const painted = await page.evaluate(() => window.flashes);
  const delays = seen.flashes.map((at) => at - painted.findLast((flash) => flash <= at));
  results.delay_ms = Math.round(median(delays));
  results.sent = lateness(sent);
  results.seen = lateness(seen);
  results.lips_ms = results.seen.ms - results.sent.ms;
  check(results.seen.beats >= SECONDS / 2, `only ${results.seen.beats} flashes with beeps came in ${SECONDS} s`);
  check(results.lips_ms >= -MOST_EARLY_MS && results.lips_ms <= MOST_LATE_MS, `the preview's sound comes ${results.lips_ms} ms after its picture`);
  check(results.delay_ms < MOST_DELAY_MS, `the preview is ${results.delay_ms} ms late`);

  await page.getByTestId("watch-programme").click();
  await page.getByTestId("programme-preview").waitFor({ state: "detached" });
  await page.getByTestId("watch-programme").click();
  await page.waitForFunction(() => document.querySelector('[data-testid="programme-preview"] video')?.videoWidth > 0);
  check(await muted(), "who looks again hears at once");
  await page.getByTestId("stop").click();
  await page.getByTestId("confirm-stop").click();
  await page.getByTestId("go-live").waitFor();
}

mkdirSync(OUT, { recursive: true });
const browser = await launch(ON_LOOPBACK);
try {
  await main(browser);
} catch (error) {
  results.problems.push(error.message);
} finally {
  await browser.close().catch(() => undefined);
}
console.log(JSON.stringify(results));
process.exit(results.problems.length === 0 ? 0 : 1);
