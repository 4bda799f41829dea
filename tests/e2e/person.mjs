// Somebody inside a room of the studio, in a page whose peer connections can be asked what they do.
import { behind } from "./wire.mjs";

const PATIENCE_MS = 30_000;

/** In the page: the studio keeps its peer connections to itself; the tests read their statistics. */
export function keepPeers() {
  const Native = window.RTCPeerConnection;
  window.peers = [];
  window.RTCPeerConnection = class extends Native {
    constructor(...parameters) {
      super(...parameters);
      window.peers.push(this);
    }
  };
}

/**
 * Comes in by an invitation, maybe behind a wire, with a camera of this size, which is sent in this codec alone if one is named, and in
 * this form if its owner chose one.
 */
export async function person(inside, url, { wire, camera, codec, form, viewport = { width: 1280, height: 800 } } = {}) {
  const context = await inside.newContext({ permissions: ["camera", "microphone"], viewport });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  if (wire !== undefined) await behind(wire, page);
  await page.addInitScript(keepPeers);
  await page.addInitScript(({ camera, codec, form }) => {
    if (form !== undefined) localStorage.setItem("jamcast.camera.form", form);
    const native = MediaDevices.prototype.getUserMedia;
    MediaDevices.prototype.getUserMedia = function (constraints) {
      return native.call(this, { ...constraints, video: constraints.video && camera });
    };
    if (codec === undefined) return;
    const prefer = RTCRtpTransceiver.prototype.setCodecPreferences;
    RTCRtpTransceiver.prototype.setCodecPreferences = function (codecs) {
      const wanted = codecs.filter((each) => each.mimeType === codec);
      prefer.call(this, wanted.length > 0 ? wanted : codecs);
    };
  }, { camera, codec, form });
  await page.goto(url);
  const button = page.getByTestId("join-button");
  await page.waitForFunction(() => document.querySelector('[data-testid="join-button"]:not([disabled])') !== null);
  await button.click();
  await page.locator('[data-testid="room"][data-phase="inside"]').waitFor();
  return page;
}

/** What somebody sends: each stream with its size, its codec and what went out of it. */
export function sent(page) {
  return page.evaluate(async () => {
    const streams = [];
    for (const pc of window.peers) {
      if (pc.connectionState !== "connected") continue;
      const stats = await pc.getStats();
      for (const report of stats.values()) {
        if (report.type !== "outbound-rtp") continue;
        const { kind, rid, timestamp: at, frameHeight: height, framesSent: frames, scalabilityMode: mode } = report;
        const { bytesSent: bytes, packetsSent: packets, totalEncodeTime: encoding } = report;
        streams.push({ kind, rid, at, height, frames, mode, codec: stats.get(report.codecId)?.mimeType, bytes, packets, encoding });
      }
    }
    return streams;
  });
}
