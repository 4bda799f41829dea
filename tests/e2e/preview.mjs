// A host sees and hears the broadcast in the studio as it leaves the encoder, with a musician in it.
//
//   GATEWAY_URL=http://127.0.0.1:8080 HOST_TOKEN=… node preview.mjs
//
// OUT (out: a screenshot). The last line on stdout is one JSON object with the results; the exit code is 0 only when all of it worked.
import { mkdirSync } from "node:fs";
import { resolve } from "node:path";

import { ON_LOOPBACK, launch } from "./browser.mjs";

const { GATEWAY_URL, HOST_TOKEN } = process.env;
const OUT = resolve(process.env.OUT ?? "out");
const PATIENCE_MS = 30_000;

/** Each plays one note; the host's picture flashes and their sound beeps once a second besides. */
const HOST = { note: 440, beep: 1760, width: 320, height: 180, fps: 30 };
const MUSICIAN = { note: 660, beep: null, width: 160, height: 90, fps: 5 };
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

/** In the page: a camera and a microphone on one clock, so that lip-sync can be measured. */
function devices({ note, beep, width, height, fps }) {
  const MARK = 0.2;
  let made;
  window.flashes = [];
  function make() {
    const audio = new AudioContext({ sampleRate: 48000 });
    const output = audio.createMediaStreamDestination();
    const tone = (frequency, level) => {
      const gain = new GainNode(audio, { gain: level });
      gain.connect(output);
      const wave = new OscillatorNode(audio, { frequency });
      wave.connect(gain);
      wave.start();
      return gain.gain;
    };
    tone(note, 0.1);
    const beeps = beep === null ? null : tone(beep, 0);
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const paint = canvas.getContext("2d");
    const video = canvas.captureStream(0).getVideoTracks()[0];
    let [painted, marked, wasWhite] = [-1, 0, false];
    setInterval(() => {
      while (beeps !== null && marked < audio.currentTime + 2) {
        beeps.setValueAtTime(0.5, marked);
        beeps.setValueAtTime(0, marked + MARK);
        marked += 1;
      }
      const frame = Math.floor(audio.currentTime * fps);
      if (frame === painted) return;
      painted = frame;
      const white = beep !== null && frame % fps < fps * MARK;
      if (white && !wasWhite) window.flashes.push(performance.now());
      wasWhite = white;
      paint.fillStyle = white ? "#fff" : "#8c1d18";
      paint.fillRect(0, 0, width, height);
      paint.fillStyle = white ? "#fff" : "#f2c14e";
      paint.fillRect((frame * 4) % width, height / 3, width / 8, height / 5);
      video.requestFrame();
    }, 5);
    return { audio: output.stream.getAudioTracks()[0], video };
  }
  navigator.mediaDevices.getUserMedia = async (constraints) => {
    made ??= make();
    window.captured = made;
    return new MediaStream(["audio", "video"].filter((kind) => constraints[kind]).map((kind) => made[kind].clone()));
  };
}

/** In the page: when flashes begin in a picture and beeps in a sound, milliseconds of the page's clock. */
async function marks({ of, corner, seconds }) {
  const shown = document.querySelector('[data-testid="programme-preview"] video')?.srcObject;
  const { audio, video } =
    of === "preview" ? { audio: shown.getAudioTracks()[0], video: shown.getVideoTracks()[0] } : window.captured;
  const [flashes, beeps] = [[], []];
  const until = performance.now() + seconds * 1000;
  async function edges(track, times, isOn) {
    const copy = track.clone();
    const reader = new MediaStreamTrackProcessor({ track: copy }).readable.getReader();
    let was = true;
    while (performance.now() < until) {
      const { value, done } = await reader.read();
      if (done) break;
      const at = performance.now();
      const on = isOn(value);
      value.close();
      if (on && !was) times.push(at);
      was = on;
    }
    await reader.cancel();
    copy.stop();
  }
  const pen = new OffscreenCanvas(8, 8).getContext("2d", { willReadFrequently: true });
  const isWhite = (frame) => {
    pen.drawImage(frame, corner[0] * frame.displayWidth, corner[1] * frame.displayHeight, 16, 16, 0, 0, 8, 8);
    return pen.getImageData(0, 0, 8, 8).data.reduce((sum, each) => sum + each, 0) / 256 > 215;
  };
  let held = 0;
  // All notes together stay below 0.25; with the beep they pass 0.45.
  const isLoud = (data) => {
    const samples = new Float32Array(data.numberOfFrames);
    data.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
    held = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), held * 0.6);
    return held > 0.35;
  };
  await Promise.all([edges(video, flashes, isWhite), edges(audio, beeps, isLoud)]);
  return { flashes, beeps };
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
  const near = (value, centre) => value - Math.round((value - centre) / 1000) * 1000;
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
  const headers = { authorization: `Bearer ${HOST_TOKEN}`, "content-type": "application/json" };
  const body = JSON.stringify({ name: "Grace", role: "musician" });
  const invited = await fetch(new URL("/api/v1/rooms/demo/tokens", GATEWAY_URL), { method: "POST", headers, body });
  const { studio_url } = await invited.json();
  await enter(browser, MUSICIAN, studio_url);
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
  const where = { seconds: SECONDS, corner: [0.75, 0.35] };
  const [sent, seen] = await Promise.all([
    page.evaluate(marks, { ...where, of: "sender" }),
    page.evaluate(marks, { ...where, of: "preview" }),
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
