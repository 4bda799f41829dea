// A room and its host, as two people would meet it: levels, 10 ms frames, a shared screen, muting, isolating, a broken line that
// nobody sees, a locked door, being put out.
//
//   HOST_URL='http://…/#token=…' MUSICIAN_URL='http://…/#token=…' STRANGER_URL='http://…/#token=…' node house.mjs
//
// OUT (out: screenshots), CHROMIUM (/usr/bin/chromium). The last line on stdout is one JSON object; exit code 0 when all worked.
import { mkdirSync } from "node:fs";
import { resolve } from "node:path";

import { ON_LOOPBACK, launch } from "./browser.mjs";

const { HOST_URL, MUSICIAN_URL, STRANGER_URL } = process.env;
const OUT = resolve(process.env.OUT ?? "out");

/** Generous: the machine may be building at the same time. */
const PATIENCE_MS = 30_000;

if (!HOST_URL || !MUSICIAN_URL || !STRANGER_URL) {
  console.error("Set HOST_URL, MUSICIAN_URL and STRANGER_URL.");
  process.exit(2);
}

const results = { ok: false, step: "open", problems: [] };

function step(name) {
  results.step = name;
  console.error(`house: ${name}`);
}

function check(fine, complaint) {
  if (!fine) results.problems.push(`${results.step}: ${complaint}`);
}

const browser = await launch(ON_LOOPBACK);

async function open(who, url) {
  const context = await browser.newContext({ permissions: ["camera", "microphone"], viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (error) => results.problems.push(`${who}: the page threw ${error.message}`));
  // The studio keeps these to itself; the test counts and breaks them.
  await page.addInitScript(() => {
    const note = (name, list) => {
      const Native = window[name];
      window[list] = [];
      window[name] = class extends Native {
        constructor(...parameters) {
          super(...parameters);
          window[list].push(this);
        }
      };
    };
    note("RTCPeerConnection", "peers");
    note("WebSocket", "sockets");
  });
  await page.goto(url);
  return page;
}

async function join(page) {
  await page.waitForFunction(() => document.querySelector('[data-testid="join-button"]')?.textContent === "Join");
  await page.getByTestId("join-button").click();
  await page.locator('[data-testid="room"][data-phase="inside"]').waitFor();
}

/** Sums of all peer connections: packets of sound out and in, and the energy that came. */
function sound(page) {
  return page.evaluate(async () => {
    const sum = { at: performance.now(), sent: 0, received: 0, energy: 0 };
    for (const pc of window.peers) {
      if (pc.connectionState === "closed") continue;
      for (const report of (await pc.getStats()).values()) {
        if (report.kind !== "audio") continue;
        if (report.type === "outbound-rtp") sum.sent += report.packetsSent;
        if (report.type === "inbound-rtp") {
          sum.received += report.packetsReceived;
          sum.energy += report.totalAudioEnergy ?? 0;
        }
      }
    }
    return sum;
  });
}

/** What `sound` gained in a while, a second. */
async function rate(page, ms = 2000) {
  const before = await sound(page);
  await page.waitForTimeout(ms);
  const after = await sound(page);
  const seconds = (after.at - before.at) / 1000;
  return { sent: (after.sent - before.sent) / seconds, received: (after.received - before.received) / seconds };
}

async function decide(host, what) {
  await host.getByTestId("person").click();
  await host.getByTestId(`decide-${what}`).click();
}

async function main() {
  mkdirSync(OUT, { recursive: true });
  const host = await open("host", HOST_URL);
  const musician = await open("musician", MUSICIAN_URL);
  await join(host);
  await join(musician);
  await host.locator('[data-testid="tile"] video').waitFor();
  await musician.locator('[data-testid="tile"] video').waitFor();

  step("levels");
  await host.locator('[data-testid="tile"][data-sounds="true"]').waitFor();

  step("frames");
  results.frames = await rate(musician);
  check(Math.abs(results.frames.sent - 100) < 15, `${results.frames.sent.toFixed(0)} packets of sound a second are sent, not 100`);

  step("screen");
  await musician.getByTestId("share-screen").click();
  await host.getByTestId("screen-tile").waitFor();
  await host.waitForFunction(() => document.querySelector('[data-testid="screen-tile"] video')?.videoWidth > 0);
  await host.screenshot({ path: `${OUT}/host-screen.png` });
  await musician.getByTestId("share-screen").click();
  await host.getByTestId("screen-tile").waitFor({ state: "detached" });

  step("broken line");
  await host.evaluate(() => {
    window.gone = 0;
    new MutationObserver((changes) => {
      for (const change of changes) for (const node of change.removedNodes) window.gone += Number(node.dataset?.testid === "tile");
    }).observe(document.body, { childList: true, subtree: true });
  });
  const peers = await musician.evaluate(() => window.peers.length);
  await musician.evaluate(() => window.sockets.at(-1).close());
  await musician.waitForFunction(() => window.sockets.length === 2);
  await musician.locator('[data-testid="room"][data-phase="inside"]').waitFor();
  await musician.locator('[data-testid="link-signalling"][data-state="up"]').waitFor();
  check((await musician.evaluate(() => window.peers.length)) === peers, "the media was set up anew");
  check((await host.evaluate(() => window.gone)) === 0, "the host saw the musician leave");
  check((await rate(host)).received > 50, "no sound comes any more");

  step("mute");
  await decide(host, "mute");
  await musician.getByTestId("decided").waitFor();
  await musician.screenshot({ path: `${OUT}/musician-muted.png` });
  for (let n = 0; n < 2; n += 1) await musician.getByTestId("mic-toggle").click();
  await musician.waitForTimeout(500);
  check((await rate(host)).received < 1, "a musician whom the host has muted is heard");
  await decide(host, "mute");
  await musician.getByTestId("decided").waitFor({ state: "detached" });
  check((await rate(host)).received > 50, "a musician whom the host lets be heard is not");

  step("isolate");
  await decide(host, "isolate");
  await musician.getByTestId("decided").waitFor();
  check((await rate(host)).received > 50, "the host does not hear whom it has isolated");
  await host.screenshot({ path: `${OUT}/host-isolated.png` });

  step("lock");
  await host.getByTestId("lock").click();
  await musician.getByTestId("locked").waitFor();
  const stranger = await open("stranger", STRANGER_URL);
  await stranger.waitForFunction(() => document.querySelector('[data-testid="join-button"]')?.textContent === "Join");
  await stranger.getByTestId("join-button").click();
  await stranger.getByTestId("room_locked").waitFor();
  await host.getByTestId("lock").click();
  await musician.getByTestId("locked").waitFor({ state: "detached" });
  await stranger.getByTestId("try-again").click();
  await stranger.locator('[data-testid="room"][data-phase="inside"]').waitFor();
  check((await stranger.locator('[data-testid="tile"] video').count()) <= 1, "a stranger sees who is isolated");
  await stranger.getByTestId("leave").click();
  await host.getByTestId("person").nth(1).waitFor({ state: "detached" });

  step("put out");
  await decide(host, "ban");
  await musician.getByTestId("rejoin").click();
  await musician.waitForFunction(() => document.querySelector('[data-testid="join-button"]')?.textContent === "Join");
  await musician.getByTestId("join-button").click();
  await musician.getByTestId("banned").waitFor();
  await host.getByTestId("leave").click();
  await host.getByTestId("rejoin").waitFor();
  step("done");
}

try {
  await main();
} catch (error) {
  results.problems.push(`${results.step}: ${error.message}`);
  for (const [index, context] of browser.contexts().entries()) {
    await context.pages()[0]?.screenshot({ path: `${OUT}/house-failure-${index}.png` }).catch(() => undefined);
  }
} finally {
  await browser.close().catch(() => undefined);
}
results.ok = results.step === "done" && results.problems.length === 0;
console.log(JSON.stringify(results));
process.exit(results.ok ? 0 : 1);
