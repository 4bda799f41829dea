// The ways to the gateway, as two people would use them: the studio in two browsers, and between them and the gateway a router that
// lets through what the step is about. Run by transports.sh, in the browsers' namespace.
//
// The last line on stdout is one JSON object with the results; the exit code is 0 only when all of it worked.
import { execFileSync } from "node:child_process";

import { chromium } from "playwright-core";

import { launchServer } from "./browser.mjs";
import { invitation } from "./gateway.mjs";
import { keepPeers } from "./person.mjs";

const { HOST_URL, ROUTER, BROWSERS, COTURN, OUT } = process.env;
const GATEWAY = "10.77.1.2";

/** Generous: the machine may be building at the same time. */
const PATIENCE_MS = 30_000;

const started = Date.now();
const results = { ok: false, step: "start", problems: [] };
const people = [];

function step(name) {
  results.step = name;
  console.error(`[${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s] ${name}`);
}

function ip(namespace, ...words) {
  execFileSync("ip", ["-n", namespace, ...words]);
}

/** What is lost on the way: everything over UDP, or everything between the browsers and the gateway that is not relayed. */
const LOSSES = {
  udp: [[BROWSERS, "to", "10.77.0.0/16", "ipproto", "udp"]],
  direct: [
    [ROUTER, "iif", "browsers", "to", "10.77.1.0/24"],
    [ROUTER, "iif", "gateway", "to", "10.77.2.0/24"],
  ],
};

function lose(losses) {
  for (const [namespace, ...what] of losses) ip(namespace, "rule", "add", "pref", "200", ...what, "blackhole");
  return () => losses.forEach(([namespace, ...what]) => ip(namespace, "rule", "del", "pref", "200", ...what, "blackhole"));
}

/** One person in a browser of their own; `codec` is the one their camera prefers. */
async function openPerson(who, url, codec) {
  const server = await launchServer(`--unsafely-treat-insecure-origin-as-secure=${new URL(url).origin}`);
  const browser = await chromium.connect(server.wsEndpoint());
  const context = await browser.newContext({ permissions: ["camera", "microphone"], viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  const person = { who, url, server, page };
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (error) => results.problems.push(`${who}: the page threw ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") console.error(`${who}: console: ${message.text()}`);
  });
  await page.addInitScript(keepPeers);
  await page.addInitScript((preferred) => {
    const prefer = RTCRtpTransceiver.prototype.setCodecPreferences;
    RTCRtpTransceiver.prototype.setCodecPreferences = function (codecs) {
      const rank = (codec) => (codec.mimeType === preferred ? 0 : 1);
      prefer.call(this, [...codecs].sort((a, b) => rank(a) - rank(b)));
    };
  }, codec);
  return person;
}

/** Comes in as if for the first time. */
async function enter({ page, url }) {
  await page.goto("about:blank");
  await page.goto(url);
  const ready = () => document.querySelector('[data-testid="join-button"]')?.textContent === "Join";
  await page.waitForFunction(ready, undefined, { timeout: PATIENCE_MS });
  await page.getByTestId("join-button").click();
  await page.locator('[data-testid="room"][data-phase="inside"]').waitFor();
}

/** What comes of the other's picture and sound, and over which pair. */
function received({ page }) {
  return page.evaluate(async () => {
    const sums = { frames: 0, packets: 0, codec: null, paths: [], states: [] };
    for (const peer of window.peers.filter((each) => each.connectionState !== "closed")) {
      const stats = [...(await peer.getStats()).values()];
      const find = (id) => stats.find((each) => each.id === id);
      sums.states.push(peer.connectionState);
      for (const each of stats) {
        if (each.type === "inbound-rtp" && each.kind === "video") {
          sums.frames += each.framesDecoded;
          sums.codec = find(each.codecId)?.mimeType ?? sums.codec;
        }
        if (each.type === "inbound-rtp" && each.kind === "audio") sums.packets += each.packetsReceived;
        if (each.type === "transport" && each.selectedCandidatePairId) {
          const pair = find(each.selectedCandidatePairId);
          const [local, remote] = [find(pair.localCandidateId), find(pair.remoteCandidateId)];
          sums.paths.push(`${local.candidateType}/${local.protocol} ${local.address} > ${remote.address}:${remote.port}`);
        }
      }
    }
    return sums;
  });
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Waits until `frames` pictures and as many sounds more have come; gives what was received then. */
async function hears(person, frames, patience = PATIENCE_MS) {
  const before = await received(person);
  const deadline = Date.now() + patience;
  for (;;) {
    await pause(250);
    const now = await received(person);
    if (now.frames >= before.frames + frames && now.packets >= before.packets + frames) return now;
    if (Date.now() > deadline) {
      const came = `${now.frames - before.frames} pictures, ${now.packets - before.packets} packets of sound`;
      throw new Error(`${person.who}: only ${came} came; ${now.states.join()}; ${now.paths.join("; ")}`);
    }
  }
}

function check(fine, complaint) {
  if (!fine) results.problems.push(complaint);
}

/** Both enter and hear each other over paths like this. */
async function meet(name, like) {
  await Promise.all(people.map(enter));
  const got = await Promise.all(people.map((person) => hears(person, 15)));
  for (const [index, { paths }] of got.entries()) {
    check(paths.length === 2, `${name}: ${people[index].who} has ${paths.length} connected transports`);
    for (const path of paths) check(like.test(path), `${name}: ${people[index].who} uses ${path}`);
  }
  results[name] = got;
}

/** Whom this person sees, by the number the gateway gave them; a new visit has a new one. */
function others({ page }) {
  return page.getByTestId("tile").evaluateAll((tiles) => tiles.map((tile) => tile.dataset.participant));
}

async function main() {
  const host = await openPerson("host", HOST_URL, "video/VP8");
  const musician = await openPerson("musician", await invitation("Grace", "musician"), "video/H264");
  people.push(host, musician);

  step("TCP: UDP leads nowhere");
  let allow = lose(LOSSES.udp);
  await meet("tcp", new RegExp(`^(host|prflx)/tcp 10.77.2.2 > ${GATEWAY}:40000$`));
  allow();

  step("relay: only coturn leads to the gateway");
  allow = lose(LOSSES.direct);
  await meet("relay", new RegExp(`^relay/udp 10.77.1.1 > ${GATEWAY}:400`));
  allow();

  step("UDP: the usual way");
  // Where both lead to the gateway, which is the first to do so is a race on a loaded machine.
  process.kill(Number(COTURN));
  await meet("udp", new RegExp(`^host/udp 10.77.2.2 > ${GATEWAY}:400`));
  check(results.udp[0].codec === "video/H264", `the host decodes ${results.udp[0].codec} of the musician`);
  check(results.udp[1].codec === "video/VP8", `the musician decodes ${results.udp[1].codec} of the host`);

  step("the musician's machine sleeps, and the network becomes another");
  const before = await Promise.all(people.map(others));
  const asleep = processes(musician.server.process().pid);
  for (const pid of asleep) process.kill(pid, "SIGSTOP");
  const fallen = Date.now();
  ip(BROWSERS, "addr", "del", "10.77.2.2/24", "dev", "media");
  ip(BROWSERS, "addr", "add", "10.77.2.7/24", "dev", "media");
  ip(BROWSERS, "route", "add", "default", "via", "10.77.2.1");
  await pause(20_000 - (Date.now() - fallen));
  for (const pid of asleep) process.kill(pid, "SIGCONT");
  step("both come back");
  const woken = Date.now();
  results.back = await Promise.all(people.map((person) => hears(person, 15)));
  results.back_after_ms = Date.now() - woken;
  for (const { paths } of results.back) for (const path of paths) check(path.includes(" 10.77.2.7 "), `back: ${path}`);
  const after = await Promise.all(people.map(others));
  check(String(after) === String(before), `the people were ${before}, and are ${after}`);
  step("done");
}

/** A process and all it has started, the oldest first. */
function processes(pid) {
  const table = execFileSync("ps", ["-eo", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n");
  const rows = table.map((row) => row.trim().split(/ +/).map(Number));
  const found = [pid];
  for (const parent of found) found.push(...rows.filter(([, ppid]) => ppid === parent).map(([child]) => child));
  return found;
}

try {
  await main();
} catch (error) {
  results.problems.push(`${results.step}: ${error.message}`);
  for (const { who, page } of people) await page.screenshot({ path: `${OUT}/failure-${who}.png`, timeout: 5000 }).catch(() => undefined);
} finally {
  for (const { server } of people) await server.close().catch(() => undefined);
}
results.ok = results.step === "done" && results.problems.length === 0;
console.log(JSON.stringify(results));
process.exit(results.ok ? 0 : 1);
