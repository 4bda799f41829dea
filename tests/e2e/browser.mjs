// Chromium with a camera and a microphone that need no hands, and without whatever would talk to the world beside the test.
import { chromium } from "playwright-core";

const { CHROMIUM = "/usr/bin/chromium" } = process.env;

const FLAGS = [
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
  "--autoplay-policy=no-user-gesture-required",
];

/** For where the gateway is on the same machine. */
export const ON_LOOPBACK = "--allow-loopback-in-peer-connection";

export function launch(...more) {
  return chromium.launch({ executablePath: CHROMIUM, args: [...FLAGS, ...more] });
}

/** As a server, whose process can be put to sleep. */
export function launchServer(...more) {
  return chromium.launchServer({ executablePath: CHROMIUM, args: [...FLAGS, ...more] });
}
