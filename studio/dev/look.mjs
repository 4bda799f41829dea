// Opens the built studio in Chromium with a gateway made of fixtures, under the strict content security policy the real one sends,
// and saves a picture of every page in dark and light, on a narrow phone and on a wide screen. Ends with an error if a page asks for
// what no fixture answers, or complains in its console.
//   npm run build && node dev/look.mjs [folder for the pictures] [dark-phone, light-wide …] [a scene]
import { mkdir, readFile } from "node:fs/promises";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";

import { runnerImport } from "vite";

import { launch, ON_LOOPBACK } from "../../tests/e2e/browser.mjs";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const { module: fixtures } = await runnerImport(here("fixtures.ts"));

const [OUT = "look", ONLY_LOOK, ONLY_SCENE] = process.argv.slice(2);
const ORIGIN = "http://127.0.0.1:9";
const CSP = "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob: mediastream:; worker-src 'self' blob:; object-src 'none'";
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const POSTER = `<svg xmlns="http://www.w3.org/2000/svg" width="320" height="180"><rect width="320" height="180" fill="#234"/><circle cx="160" cy="80" r="40" fill="#d96"/></svg>`;
const SIZES = { wide: { width: 1440, height: 900 }, phone: { width: 360, height: 740 } };
const LOOKS = ["light-wide", "dark-wide", "light-phone", "dark-phone"];

const complaints = [];
const complain = (text) => {
  console.log(text);
  complaints.push(text);
};

/** What the gateway answers: a body to send as JSON, or `undefined` for a question that it does not know. */
function answer(state, method, path, body) {
  const list = (data) => ({ data, next_cursor: null });
  switch (`${method} ${path}`) {
    case "GET /destinations": return list(fixtures.destinations);
    case "GET /platforms": return list(fixtures.platforms);
    case "GET /tiers": return list(fixtures.tiers);
    case "GET /recordings": return list(fixtures.recordings);
    case "GET /streams": return list(state.running ? [state.running] : []);
    case "POST /streams": return fixtures.live;
    case "POST /streams/str_1/start": return (state.running = structuredClone(fixtures.live));
    case "POST /streams/str_1/stop": return (state.running = { ...state.running, state: "ended" });
    case "PATCH /streams/str_1": {
      Object.assign(state.running.layout, body.layout);
      return state.running;
    }
    case "POST /rooms/friday-jam/tokens": return fixtures.invitation;
    default: return undefined;
  }
}

const INVALID = {
  title: "Invalid destination", status: 422, code: "invalid", detail: "The destination has errors.",
  errors: [
    { pointer: "/url", detail: "must begin with rtmp:// or rtmps://" },
    { pointer: "/key", detail: "a stream key has no spaces; copy it again" },
  ],
};

async function serve(name, state, route) {
  const request = route.request();
  const { pathname } = new URL(request.url());
  if (!pathname.startsWith("/api/v1/")) {
    const file = pathname === "/" ? "index.html" : pathname.slice(1);
    const headers = { "content-security-policy": CSP, "content-type": TYPES[extname(file)] ?? "application/octet-stream" };
    return route.fulfill({ headers, body: await readFile(here(`../dist/${file}`)) });
  }
  const path = pathname.slice("/api/v1".length);
  if (path.includes("/thumbnails/")) return route.fulfill({ contentType: "image/svg+xml", body: POSTER });
  if (path === "/streams/str_1/events") {
    await new Promise((done) => setTimeout(done, 300));
    const events = [["snapshot", state.running], ["meters", fixtures.meters]];
    const body = events.map(([event, data]) => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`).join("");
    return route.fulfill({ contentType: "text/event-stream", body });
  }
  if (request.method() === "POST" && path === "/destinations") {
    return route.fulfill({ status: 422, contentType: "application/problem+json", body: JSON.stringify(INVALID) });
  }
  const body = answer(state, request.method(), path, request.postDataJSON());
  if (body !== undefined) return route.fulfill({ contentType: "application/json", body: JSON.stringify(body) });
  complain(`${name}: no fixture answers ${request.method()} ${path}`);
  return route.fulfill({ status: 404 });
}

const browser = await launch(ON_LOOPBACK);
await mkdir(OUT, { recursive: true });

/** A page of somebody in one of the rooms, and what takes pictures of it. */
async function open(look, scene, { room = fixtures.rooms.host, facts = {}, running = null, invited = true } = {}) {
  const name = `${look}-${scene}`;
  const [colorScheme, size] = look.split("-");
  const viewport = SIZES[size];
  const context = await browser.newContext({ colorScheme, viewport, permissions: ["camera", "microphone", "clipboard-read", "clipboard-write"] });
  const page = await context.newPage();
  page.on("console", (message) => {
    const expected = message.text().includes("the server responded with a status of 422");
    if (["error", "warning"].includes(message.type()) && !expected) complain(`${name}: ${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => complain(`${name}: ${error}`));
  await page.addInitScript((given) => Object.assign(window, given), { fakeRoom: room, ...facts });
  await page.addInitScript({ path: here("fake-room.js") });
  const state = { running: running && structuredClone(running) };
  await page.route(`${ORIGIN}/**`, (route) => serve(name, state, route));
  const { name: person, role } = room.joined.you;
  const claims = Buffer.from(JSON.stringify({ room: room.joined.room, name: person, role })).toString("base64url");
  await page.goto(`${ORIGIN}/${invited ? `#token=x.${claims}.x` : ""}`);
  const at = (id) => page.getByTestId(id);
  let shots = 0;
  const shot = async (what, element = page) => {
    await page.waitForTimeout(400);
    await element.screenshot({ path: `${OUT}/${name}-${++shots}-${what}.png` });
    const wide = await page.locator("html, .panel, dialog[open]").evaluateAll((all) => all.filter((each) => each.scrollWidth > each.clientWidth).map((each) => each.tagName));
    for (const tag of wide) complain(`${name}: at ${what} something is wider than the ${tag} it is in`);
    const below = await page.locator(".room").evaluateAll((rooms) => rooms.length * (document.documentElement.scrollHeight - innerHeight));
    if (below > 0) complain(`${name}: at ${what} the room can be scrolled away by ${below} px`);
  };
  /** The whole panel, as long as it is. */
  const panelShot = async (what) => {
    const panel = at("broadcast-panel");
    const outside = await panel.evaluate(({ scrollHeight, clientHeight }) => scrollHeight - clientHeight);
    await page.setViewportSize({ ...viewport, height: viewport.height + outside + 10 });
    await panel.evaluate((each) => each.scrollTo(0, 0));
    await shot(what, panel);
    await page.setViewportSize(viewport);
  };
  const panel = async (wanted) => {
    if ((await at("broadcast-panel").isVisible()) !== wanted) await at("broadcast-toggle").click();
  };
  const join = async () => {
    await at("join-button").click();
    await at("room").waitFor();
    await page.waitForTimeout(2500);
  };
  return { page, at, shot, panelShot, panel, join, close: () => context.close() };
}

const SCENES = {
  async "off-air"(look, scene) {
    const { page, at, shot, panelShot, panel, join, close } = await open(look, scene);
    await at("level-meter").waitFor();
    await page.waitForTimeout(1200);
    await shot("green-room");
    await join();
    await panel(false);
    await shot("room");
    await at("devices").click();
    await shot("devices");
    await page.keyboard.press("Escape");
    await at("invite").click();
    await at("invite-name").fill("Charlie");
    await at("invite-create").click();
    await at("invite-link").waitFor();
    await shot("invite");
    await page.keyboard.press("Escape");
    await panel(true);
    await shot("panel");
    await at("passthrough").check({ force: true });
    await at("stems-of").locator("summary").click();
    await panelShot("prepare");
    await at("add-destination").click();
    await at("destination-url").fill("http://wrong");
    await at("destination-key").fill("a b");
    await at("destination-save").click();
    await shot("destination-errors");
    await page.keyboard.press("Escape");
    await at("go-live").click();
    await page.locator("[data-testid=status][data-state=live]").waitFor();
    await panel(false);
    await at("leave").click();
    await at("rejoin").waitFor();
    await shot("left");
    await close();
  },
  async live(look, scene) {
    const { page, at, shot, panelShot, panel, join, close } = await open(look, scene, { running: fixtures.live });
    await join();
    await panel(false);
    await shot("room");
    await panel(true);
    await shot("panel");
    await at("reach-change").locator("summary").click();
    await at("strip-more").nth(1).click();
    await at("canvas-switch").check({ force: true });
    await at("canvas-status").waitFor();
    await page.waitForTimeout(1500);
    await panelShot("custom-layout");
    await at("layout-picture_in_picture").click();
    await at("dressing").locator("summary").click();
    await panelShot("inset-dressing");
    await at("stop").click();
    await shot("stop");
    await page.keyboard.press("Escape");
    await page.evaluate(() => {
      window.fakeDown = true;
      window.fakeSockets.forEach((each) => each.drop());
    });
    await at("reconnecting").waitFor();
    await panel(false);
    await shot("reconnecting");
    await page.evaluate(() => (window.fakeDown = false));
    for (const link of ["link-recv", "link-send"]) await page.locator(`[data-testid=${link}][data-state=up]`).waitFor({ timeout: 20_000 });
    await close();
  },
  async decisions(look, scene) {
    const { page, at, shot, panel, join, close } = await open(look, scene, { room: fixtures.rooms.decisions });
    await join();
    await panel(false);
    await shot("room");
    await at("delay").first().click();
    await at("delay-table").waitFor();
    await shot("delays");
    await page.keyboard.press("Escape");
    await at("person").nth(1).click();
    await shot("person");
    await close();
  },
  async decided(look, scene) {
    const { at, shot, join, close } = await open(look, scene, { room: fixtures.rooms.decided });
    await join();
    await at("decided").waitFor();
    await shot("room");
    await close();
  },
  async viewer(look, scene) {
    const { shot, join, close } = await open(look, scene, { room: fixtures.rooms.viewer });
    await shot("green-room");
    await join();
    await shot("room");
    await close();
  },
  async doors(look, scene) {
    const none = await open(look, `${scene}-uninvited`, { invited: false });
    await none.shot("door");
    await none.close();
    for (const code of ["room_full", "room_locked", "banned"]) {
      const { at, shot, close } = await open(look, `${scene}-${code}`, { facts: { fakeRefusal: code } });
      await at("join-button").click();
      await at(code).waitFor();
      await shot("door");
      await close();
    }
    const { page, shot, close } = await open(look, `${scene}-no-devices`);
    await page.addInitScript(() => {
      navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("no", "NotAllowedError"));
    });
    await page.reload();
    await shot("green-room");
    await close();
  },
};

for (const look of LOOKS.filter((each) => !ONLY_LOOK || each === ONLY_LOOK)) {
  for (const [scene, show] of Object.entries(SCENES)) {
    if (!ONLY_SCENE || scene === ONLY_SCENE) await show(look, scene);
  }
}
await browser.close();
process.exitCode = complaints.length > 0 ? 1 : 0;
