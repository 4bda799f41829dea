// Opens the built studio in Chromium with a gateway made of fixtures, under the strict content security policy the real one sends,
// and saves a picture of every page in dark and light, on a phone and on a wide screen.
//   npm run build && node dev/look.mjs [folder for the pictures]
import { mkdir, readFile } from "node:fs/promises";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "../../tests/e2e/node_modules/playwright-core/index.mjs";

const OUT = process.argv[2] ?? "look";
const DIST = new URL("../dist/", import.meta.url);
const ORIGIN = "http://127.0.0.1:9";
const CSP = "default-src 'self'; style-src 'self'; script-src 'self'";
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const claims = { room: "friday-jam", name: "Ella", role: "host" };
const token = `x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.x`;
const viewer = `x.${Buffer.from(JSON.stringify({ ...claims, role: "viewer" })).toString("base64url")}.x`;

const destinations = [
  { id: "dst_1", name: "X.com", platform: "x", url: "rtmps://va.pscp.tv:443/x", key_hint: "••••7k", owner: "ella", room: null, may_change: false, created_at: "" },
  { id: "dst_2", name: "YouTube backup", platform: "youtube", url: "rtmps://a.rtmps.youtube.com/live2", key_hint: "••••q2", owner: "ella", room: "jam", may_change: true, created_at: "" },
];
const platforms = ["X.com", "YouTube", "Twitch", "Facebook", "Kick", "Custom"].map((title) => ({
  name: title.toLowerCase().replace(".com", ""),
  title,
  url: title === "X.com" ? "rtmps://ca.pscp.tv:443/x" : null,
  servers: title === "X.com" ? [
    { label: "US West, California", url: "rtmps://ca.pscp.tv:443/x" },
    { label: "EU Central, Germany", url: "rtmps://de.pscp.tv:443/x" },
  ] : [],
  key_page: title === "Custom" ? null : "https://x.com/i/live-studio",
}));
const recordings = [
  { id: "rec_1", stream: "str_0", room: "friday-jam", title: "Thursday rehearsal", part: 1, created_at: "2026-11-19T20:05:00Z", ended_at: "2026-11-19T21:00:00Z", duration_ms: 3_312_000, size_bytes: 1_034_000_000, failure: null, file_url: "/api/v1/recordings/rec_1/file" },
];
const snapshot = (state, extra = {}) => ({
  id: "str_1", room: "friday-jam", owner: "ella", title: "Friday night session",
  programme: { width: 1280, height: 720, fps: 30, video_kbps: 2500, audio_kbps: 160, passthrough: "auto" },
  record: true, state, reason: null, created_at_ms: 0, started_at_ms: 0, ended_at_ms: null,
  destinations: destinations.map((d, i) => ({
    id: d.id, name: d.name, platform: d.platform, url: d.url, state: i === 0 ? "live" : "backoff",
    hint: i === 0 ? null : "The server closed the connection. Check that the stream key is the one on the platform's page.",
    retry_in_ms: i === 0 ? null : 4000, reconnects: i * 3, bytes_sent: 241_000_000, frames_sent: 22000, dropped_frames: i * 120, queue_ms: 0,
  })),
  stats: { duration_ms: 754_000, video_frames: 22620, audio_frames: 35000, passed_through: true, fps: 30, bitrate_kbps: 2671, dropped_frames: 0, musicians: 4, mixer_restarts: 0, recorded_bytes: 251_000_000 },
  mix: {
    master_gain_db: -1.5, normalise: true,
    musicians: ["Ella", "Ada", "Miles", "Nina Simone-Okonkwo"].map((name, i) => ({
      participant: `par_${i}`, name, gain_db: [0, -4.5, 2, -60][i], muted: i === 2, solo: false, pan: i === 1 ? -0.4 : 0,
      delay_ms: i === 1 ? 85 : 0, heard: i !== 2,
    })),
  },
  layout: {
    kind: "speaker", large: null, small: null, corner: "bottom_right", tiles: [],
    pictures: ["Ella", "Ada", "Miles", "Nina Simone-Okonkwo"].map((name, i) => ({
      participant: `par_${i}`, screen: false, name,
      rect: i === 1 ? { x: 0, y: 90, width: 960, height: 540 } : { x: 960, y: 90 + (i > 1 ? i - 1 : i) * 180, width: 320, height: 180 },
    })),
  },
  dressing: {
    captions: true, title: "Friday night session", logo: true, background: "#1d2b45",
    looks: ["Ella", "Ada", "Miles", "Nina Simone-Okonkwo"].map((_, i) => ({ participant: `par_${i}`, crop: [0, 0, 0, 0], mirror: i === 0, brightness: 0.1, monochrome: false })),
  },
  ...extra,
});
const meters = {
  momentary_lufs: -15.2, short_term_lufs: -16.8, integrated_lufs: -15.9, true_peak_dbtp: -1.2, normalisation_db: 2.4,
  musicians: [0, 1, 3].map((i) => ({ participant: `par_${i}`, peak_dbfs: -6 - i * 7, rms_dbfs: -16 - i * 8 })),
};

async function open(browser, name, { scheme, size, people, role, facts, path = `/#token=${token}`, permissions = ["camera", "microphone"], state = { running: null } }) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: size, permissions });
  const page = await context.newPage();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) console.log(`${name}: ${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => console.log(`${name}: ${error}`));
  if (people) await page.addInitScript((list) => (window.fakePeople = list), people);
  if (role) await page.addInitScript((text) => (window.fakeRole = text), role);
  await page.addInitScript((given) => Object.assign(window, given), facts ?? {});
  await page.addInitScript({ path: fileURLToPath(new URL("fake-room.js", import.meta.url)) });
  await page.route(`${ORIGIN}/**`, async (route) => {
    const { pathname } = new URL(route.request().url());
    const method = route.request().method();
    const json = (body, status = 200) =>
      route.fulfill({ status, contentType: status < 400 ? "application/json" : "application/problem+json", body: JSON.stringify(body) });
    const list = (data) => json({ data, next_cursor: null });
    if (pathname === "/api/v1/destinations" && method === "POST") {
      return json({ title: "Invalid destination", status: 422, code: "invalid", detail: "The destination has errors.", errors: [
        { pointer: "/url", detail: "must begin with rtmp:// or rtmps://" },
        { pointer: "/key", detail: "a stream key has no spaces; copy it again" },
      ] }, 422);
    }
    if (pathname === "/api/v1/destinations") return list(destinations);
    if (pathname === "/api/v1/platforms") return list(platforms);
    if (pathname === "/api/v1/recordings") return list(recordings);
    if (pathname === "/api/v1/rooms/friday-jam/tokens") return json({ token, role: "musician", expires_at: "", studio_url: `${ORIGIN}/#token=${token}` }, 201);
    if (pathname === "/api/v1/streams" && method === "GET") return list(state.running ? [state.running] : []);
    if (pathname === "/api/v1/streams") return json(snapshot("created"), 201);
    if (pathname.endsWith("/start")) return json((state.running = snapshot("live")), 202);
    if (pathname.endsWith("/stop")) return json((state.running = snapshot("ended")), 202);
    if (pathname.endsWith("/events")) {
      await new Promise((done) => setTimeout(done, 300));
      const body = `event: snapshot\ndata: ${JSON.stringify(state.running ?? snapshot("live"))}\n\nevent: meters\ndata: ${JSON.stringify(meters)}\n\n`;
      return route.fulfill({ contentType: "text/event-stream", body });
    }
    const file = pathname === "/" ? "index.html" : pathname.slice(1);
    try {
      const headers = { "content-security-policy": CSP, "content-type": TYPES[extname(file)] ?? "application/octet-stream" };
      return await route.fulfill({ headers, body: await readFile(new URL(file, DIST)) });
    } catch {
      return route.fulfill({ status: 404 });
    }
  });
  await page.goto(`${ORIGIN}${path}`);
  const shot = (what) => page.screenshot({ path: `${OUT}/${name}-${what}.png` });
  return { page, shot, context, state };
}

const PHONE = { width: 390, height: 844 };
const WIDE = { width: 1440, height: 900 };
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required", "--allow-loopback-in-peer-connection", "--disable-features=WebRtcHideLocalIpsWithMdns"],
});
await mkdir(OUT, { recursive: true });

async function tour(name, scheme, size) {
  const { page, shot, context } = await open(browser, name, { scheme, size });
  await page.getByTestId("level-meter").waitFor();
  await page.waitForTimeout(1500);
  await shot("1-green-room");
  await page.getByTestId("join-button").click();
  await page.getByTestId("room").waitFor();
  await page.waitForTimeout(2500);
  await shot("2-room");
  if (await page.getByTestId("broadcast-panel").isHidden()) {
    await page.getByTestId("broadcast-toggle").click();
    await shot("3-panel");
  }
  await page.getByTestId("add-destination").click();
  await page.getByTestId("destination-url").fill("http://wrong");
  await page.getByTestId("destination-key").fill("a b");
  await page.getByTestId("destination-save").click();
  await page.waitForTimeout(500);
  await shot("4-destination-errors");
  await page.keyboard.press("Escape");
  await page.getByTestId("title").fill("Friday night session");
  await page.getByTestId("go-live").click();
  await page.locator("[data-testid=status][data-state=live]").waitFor();
  await page.waitForTimeout(800);
  await shot("5-live");
  await page.getByTestId("strip-more").nth(1).click();
  await page.getByTestId("layouts").evaluate((each) => each.closest(".panel").scrollTo(0, each.offsetTop - 20));
  await page.waitForTimeout(300);
  await shot("5-picture");
  await page.getByTestId("dressing").evaluate((each) => {
    each.open = true;
    each.closest(".panel").scrollTo(0, each.offsetTop - 20);
  });
  await page.waitForTimeout(300);
  await shot("5-dressing");
  await page.getByTestId("mixer").evaluate((each) => each.closest(".panel").scrollTo(0, each.offsetTop - 20));
  await page.waitForTimeout(300);
  await shot("5-sound");
  await page.getByTestId("stop").click();
  await page.waitForTimeout(300);
  await shot("6-stop");
  await page.getByTestId("confirm-stop").click();
  await page.getByTestId("go-live").waitFor();
  await page.evaluate(() => {
    window.fakeDown = true;
    window.fakeSockets.at(-1).drop();
  });
  await page.getByTestId("reconnecting").waitFor();
  await page.waitForTimeout(1200);
  await shot("7-reconnecting");
  await page.evaluate(() => (window.fakeDown = false));
  await page.locator("[data-testid=link-recv][data-state=up]").waitFor({ timeout: 20_000 });
  await page.locator("[data-testid=link-send][data-state=up]").waitFor({ timeout: 20_000 });
  const facts = await page.evaluate(() => ({
    hash: location.hash,
    methods: window.fakeLog.map((each) => each.method).join(" "),
    offerFmtp: window.fakeLog.find((each) => each.data?.transport === "send")?.data.sdp.match(/a=fmtp:111.*/)?.[0],
    answerFmtp: window.fakeLog.find((each) => each.data?.transport === "recv")?.data.sdp?.match(/a=fmtp:111.*/)?.[0],
    videos: [...document.querySelectorAll("video")].map((v) => `${v.videoWidth}x${v.videoHeight} ${v.getVideoPlaybackQuality().totalVideoFrames}`),
  }));
  console.log(name, JSON.stringify(facts, null, 1));
  await page.getByTestId("leave").click();
  await page.getByTestId("rejoin").waitFor();
  await context.close();
}

const only = process.argv[3];
if (!only || only === "tour") {
  await tour("dark-wide", "dark", WIDE);
  await tour("light-phone", "light", PHONE);
}
if (!only || only === "rest") {
  for (const [name, scheme, size] of [["light-wide", "light", WIDE], ["dark-phone", "dark", PHONE]]) {
    const state = { running: snapshot("live") };
    const { page, shot, context } = await open(browser, name, { scheme, size, state });
    await page.waitForTimeout(1200);
    await shot("1-green-room");
    await page.getByTestId("join-button").click();
    await page.getByTestId("on-air").waitFor();
    await page.waitForTimeout(2500);
    await shot("2-room-live");
    await page.getByTestId("invite").click();
    await page.getByTestId("invite-name").fill("Charlie");
    await page.getByTestId("invite-create").click();
    await page.getByTestId("invite-link").waitFor();
    await shot("3-invite");
    await context.close();
  }
  const none = await open(browser, "none", { scheme: "dark", size: WIDE, path: "/" });
  await none.shot("no-invitation");
  const denied = await open(browser, "denied", { scheme: "light", size: PHONE, permissions: [] });
  await denied.page.addInitScript(() => {
    navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("no", "NotAllowedError"));
  });
  await denied.page.reload();
  await denied.page.waitForTimeout(800);
  await denied.shot("green-room");
  const watching = await open(browser, "viewer", { scheme: "dark", size: WIDE, role: "viewer", path: `/#token=${viewer}` });
  await watching.page.getByTestId("join-button").click();
  await watching.page.waitForTimeout(2500);
  await watching.shot("room");
}
if (!only || only === "house") {
  const people = [
    { name: "Ada", hue: 18, note: 330, role: "musician", shares: true },
    { name: "Miles", hue: 205, note: 440, role: "musician", decided: { audio_muted: true } },
    { name: "Nina Simone-Okonkwo", hue: 130, note: 550, role: "musician", decided: { isolated: true } },
    { name: "Vera", hue: 60, note: 660, role: "viewer", dark: true },
  ];
  for (const [name, scheme, size] of [["house-light-wide", "light", WIDE], ["house-dark-phone", "dark", PHONE]]) {
    const facts = { fakeState: { locked: true, spotlight: "par_0" } };
    const { page, shot, context } = await open(browser, name, { scheme, size, people, facts });
    await page.getByTestId("level-meter").waitFor();
    await page.getByTestId("join-button").click();
    await page.getByTestId("room").waitFor();
    await page.waitForTimeout(2500);
    if (await page.getByTestId("broadcast-panel").isVisible()) await page.getByTestId("broadcast-toggle").click();
    await page.waitForTimeout(500);
    await shot("1-room");
    await page.getByTestId("delay").first().click();
    await page.getByTestId("delay-table").waitFor();
    await page.waitForTimeout(300);
    await shot("3-delays");
    await page.keyboard.press("Escape");
    await page.getByTestId("person").nth(1).click();
    await page.waitForTimeout(300);
    await shot("2-person");
    await context.close();
  }
  const facts = { fakeRole: "musician", fakeDecided: { audio_muted: true, isolated: true } };
  const muted = await open(browser, "decided", { scheme: "dark", size: WIDE, role: "musician", facts });
  await muted.page.getByTestId("join-button").click();
  await muted.page.getByTestId("decided").waitFor();
  await muted.page.waitForTimeout(2000);
  await muted.shot("room");
  for (const code of ["room_full", "room_locked", "banned"]) {
    const door = await open(browser, code, { scheme: code === "banned" ? "dark" : "light", size: WIDE, facts: { fakeRefusal: code } });
    await door.page.getByTestId("join-button").click();
    await door.page.getByTestId(code).waitFor();
    await door.shot("door");
    await door.context.close();
  }
}
await browser.close();
