// A host sends the studio's canvas into a broadcast that shows nothing else; every picture carries its number, which is read again
// in the recording.
//
//   GATEWAY_URL=http://127.0.0.1:8080 HOST_TOKEN=… node canvas.mjs
//
// SECONDS_EACH (20) is how long each of the two broadcasts is live: over a good line, and over one of 2 Mbit/s. OUT (out: recordings and
// screenshots). The last line on stdout is one JSON object with the results.
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { resolve } from "node:path";

import { ON_LOOPBACK, launch } from "./browser.mjs";
import { api } from "./gateway.mjs";

const { GATEWAY_URL, HOST_TOKEN } = process.env;
const SECONDS = Number(process.env.SECONDS_EACH ?? 20);
const OUT = resolve(process.env.OUT ?? "out");
const PATIENCE_MS = 30_000;

/** Each picture's number stands at its top in so many black and white squares, the lowest bit on the left. */
const BITS = 16;

/** From the gateway to the programme: the mixer's playout delay and the encoder, milliseconds. */
const BEHIND_THE_GATEWAY_MS = 300;

/** What the browser, which has two cores for everything, brings off its beat says nothing of the gateway. */
const PICTURE_MS = 1000 / 30;

const results = { problems: [] };
function check(fine, complaint) {
  if (!fine) results.problems.push(complaint);
}

/** In the page: numbers every picture that is encoded, and notes how old it is once the gateway gives its credit back. */
function instrument(bits) {
  const Frame = window.VideoFrame;
  const pictures = [];
  window.VideoFrame = class extends Frame {
    constructor(source, init) {
      if (source instanceof HTMLCanvasElement) {
        const pen = source.getContext("2d");
        const wide = source.width / bits;
        for (let bit = 0; bit < bits; bit += 1) {
          pen.fillStyle = (pictures.length >> bit) & 1 ? "#fff" : "#000";
          pen.fillRect(bit * wide, 0, wide, source.height / 9);
        }
        pictures.push({ due: init.timestamp, age: null });
      }
      super(source, init);
    }
  };
  const Native = window.WebSocket;
  window.relayed = { pictures, frames: 0, format: null };
  window.WebSocket = class extends Native {
    constructor(url, protocols) {
      super(url, protocols);
      if (!String(url).includes("/rtmp-relay")) return;
      const underway = [];
      let granted = 6;
      this.addEventListener("message", ({ data }) => {
        const said = JSON.parse(data);
        if (said.type !== "credit") return;
        for (let n = 0; n < said.frames; n += 1) {
          if (granted > 0) granted -= 1;
          else {
            const picture = underway.shift();
            picture.age = performance.now() - picture.due / 1000;
          }
        }
      });
      const send = this.send.bind(this);
      this.send = (message) => {
        if (message instanceof ArrayBuffer) {
          const header = new DataView(message);
          const due = Number(header.getBigUint64(8));
          underway.push(pictures.findLast((each) => each.due === due));
          window.relayed.frames += 1;
          window.relayed.format = header.getUint8(1);
        }
        send(message);
      };
    }
  };
}

/** A line to the gateway: each connection over it carries so many kbit/s in each direction. The kernel's own buffers come on top. */
function narrow(kbps) {
  const gateway = new URL(GATEWAY_URL);
  const pass = (from, to) => {
    from.on("data", (data) => {
      from.pause();
      setTimeout(() => {
        if (to.destroyed) return;
        to.write(data);
        from.resume();
      }, (data.length * 8) / kbps);
    });
    from.on("close", () => to.destroy());
    from.on("error", () => to.destroy());
  };
  const server = createServer({ highWaterMark: 8192 }, (near) => {
    const far = connect({ port: Number(gateway.port), host: gateway.hostname, highWaterMark: 8192 });
    near.setNoDelay(true);
    far.setNoDelay(true);
    pass(near, far);
    pass(far, near);
  });
  return new Promise((done) => server.listen(0, "127.0.0.1", () => done(server)));
}

/** The numbers of the recording's pictures, `null` for those that carry none. */
function numbersOf(file) {
  const [width, height] = [160, 90];
  const raw = execFileSync(
    "ffmpeg",
    ["-nostdin", "-v", "error", "-i", file, "-vf", `scale=${width}:${height}:flags=area,format=gray`, "-f", "rawvideo", "-"],
    { maxBuffer: 1 << 30 },
  );
  const numbers = [];
  for (let at = 0; at + width * height <= raw.length; at += width * height) {
    let number = 0;
    let sure = true;
    for (let bit = 0; bit < BITS; bit += 1) {
      const light = raw[at + 4 * width + Math.floor(((bit + 0.5) * width) / BITS)];
      sure &&= light < 70 || light > 185;
      if (light > 127) number += 2 ** bit;
    }
    numbers.push(sure ? number : null);
  }
  return numbers;
}

async function broadcast(name, url) {
  const browser = await launch(ON_LOOPBACK);
  try {
    const context = await browser.newContext({ permissions: ["camera", "microphone"], viewport: { width: 1280, height: 900 } });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    page.on("pageerror", (error) => results.problems.push(`${name}: the page threw ${error.message}`));
    await page.addInitScript(instrument, BITS);
    await page.goto(url);
    await page.waitForFunction(() => document.querySelector('[data-testid="join-button"]')?.textContent === "Join");
    await page.getByTestId("join-button").click();
    await page.locator('[data-testid="room"][data-phase="inside"]').waitFor();
    await page.getByTestId("canvas-switch").check({ force: true });
    await page.getByText("Ready: it is sent once you are live.").waitFor();
    await page.getByTestId("canvas-title").fill(`Canvas, ${name}`);
    await page.getByTestId("title").fill(name);
    await page.getByTestId("go-live").click();
    await page.locator('[data-testid="status"][data-state="live"]').waitFor();
    await page.getByTestId("layout-canvas").click();
    await page.waitForTimeout(SECONDS * 1000);
    await page.getByTestId("canvas").scrollIntoViewIfNeeded();
    await page.screenshot({ path: `${OUT}/canvas-${name}.png` });
    const relayed = await page.evaluate(() => window.relayed);
    const status = await page.getByTestId("canvas-status").textContent();
    await page.getByTestId("stop").click();
    await page.getByTestId("confirm-stop").click();
    await page.getByTestId("go-live").waitFor();
    return { ...relayed, status };
  } finally {
    await browser.close();
  }
}

async function recordingOf(title) {
  for (let attempt = 0; attempt < 40; attempt += 1) {
    const { data } = await (await api("/recordings")).json();
    const recording = data.find((each) => each.title === title && each.size_bytes !== null);
    if (recording) {
      const file = `${OUT}/${title}.mp4`;
      writeFileSync(file, Buffer.from(await (await api(`/recordings/${recording.id}/file`)).arrayBuffer()));
      return file;
    }
    await new Promise((done) => setTimeout(done, 250));
  }
  throw new Error(`there is no recording of ${title}`);
}

/** What became of the pictures in the last seconds, when everything had settled. */
function judge({ pictures, frames, format, status }, numbers, seconds) {
  const seen = numbers.slice(-Math.round(seconds * 30) - 15, -15);
  const distinct = [...new Set(seen.filter((number) => number !== null))];
  const [first, last] = [Math.min(...distinct), Math.max(...distinct)];
  const ages = pictures.slice(first, last + 1).flatMap(({ age }) => age ?? []);
  ages.sort((a, b) => a - b);
  const quantile = (q) => ages[Math.floor(ages.length * q)] ?? 0;
  const missing = pictures.flatMap((_, n) => (n > first && n < last && !distinct.includes(n) ? n : []));
  // Two that come closer together than pictures are shown have one turn, so a neighbour off its beat costs a picture as well.
  const onBeat = (n) => pictures.slice(n - 1, n + 2).every(({ age }) => age !== null && Math.abs(age - quantile(0.5)) < PICTURE_MS / 2);
  return {
    format: ["", "H.264", "VP8", "JPEG"][format],
    sent: frames,
    status,
    frames: seen.length,
    unreadable: seen.filter((number) => number === null).length,
    fps: Number((distinct.length / (seen.length / 30)).toFixed(1)),
    missing: missing.length,
    missing_on_beat: missing.filter(onBeat).length,
    ordered: distinct.every((number, n) => n === 0 || number > distinct[n - 1]),
    age_p50_ms: Math.round(quantile(0.5)),
    age_p99_ms: Math.round(quantile(0.99)),
  };
}

function examine(name, { frames, unreadable, fps, missing, missing_on_beat, ordered, age_p99_ms }) {
  check(unreadable === 0, `${name}: ${unreadable} pictures show no number`);
  check(ordered, `${name}: pictures came out of their order`);
  check(missing_on_beat <= 0.01 * frames, `${name}: ${missing_on_beat} pictures are missing that had come in time`);
  check(missing <= 0.05 * frames, `${name}: ${missing} pictures are missing`);
  check(fps >= 15, `${name}: ${fps} fps`);
  const age = age_p99_ms + BEHIND_THE_GATEWAY_MS;
  check(age < 1000, `${name}: pictures are ${age} ms old`);
}

mkdirSync(OUT, { recursive: true });
try {
  const clean = await broadcast("clean", `${GATEWAY_URL}/#token=${HOST_TOKEN}`);
  results.clean = judge(clean, numbersOf(await recordingOf("clean")), SECONDS - 5);
  examine("clean", results.clean);

  const wire = await narrow(2000);
  const slow = await broadcast("narrow", `http://127.0.0.1:${wire.address().port}/#token=${HOST_TOKEN}`);
  wire.close();
  results.narrow = judge(slow, numbersOf(await recordingOf("narrow")), SECONDS - 5);
  examine("2 Mbit/s", results.narrow);
} catch (error) {
  results.problems.push(error.message);
}
console.log(JSON.stringify(results));
process.exit(results.problems.length === 0 ? 0 : 1);
