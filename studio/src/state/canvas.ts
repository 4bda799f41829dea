/** The host's canvas: whether it is sent, and how that goes. */

import { signal } from "@preact/signals";
import type { Signal } from "@preact/signals";

import type { Meters } from "../api/types";
import { encoderFor } from "../canvas/encoder";
import { browser, CanvasRelay } from "../canvas/relay";
import type { RelayState } from "../canvas/relay";
import { Visuals } from "../canvas/visuals";

const LOOK_MS = 1000;

export interface Throughput {
  fps: number;
  kbps: number;
}

export class Canvas {
  readonly title: Signal<string>;
  /** `null` while it is not sent. */
  readonly state: Signal<RelayState | null> = signal(null);
  readonly throughput: Signal<Throughput> = signal({ fps: 0, kbps: 0 });
  readonly visuals: Visuals;

  private readonly token: string;
  private relay: CanvasRelay | null = null;
  private timer: ReturnType<typeof setInterval> | null = null;

  constructor(token: string, room: string, meters: Signal<Meters | null>) {
    this.token = token;
    this.title = signal(room);
    this.visuals = new Visuals(() => ({
      title: this.title.value,
      levels: meters.value?.musicians.map((musician) => musician.rms_dbfs) ?? [],
    }));
  }

  start(): void {
    if (this.relay !== null) return;
    this.visuals.start();
    const address = new URL("/rtmp-relay", window.location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const world = browser(address.href, (formats) => encoderFor(this.visuals.canvas, formats));
    const relay = new CanvasRelay(world, this.token, (state) => {
      this.state.value = state.name === "closed" ? null : state;
    });
    this.relay = relay;
    let before = { ...relay.sent };
    this.timer = setInterval(() => {
      const { frames, bytes } = relay.sent;
      this.throughput.value = { fps: frames - before.frames, kbps: Math.round(((bytes - before.bytes) * 8) / LOOK_MS) };
      before = { ...relay.sent };
    }, LOOK_MS);
  }

  stop(): void {
    this.relay?.close();
    this.relay = null;
    this.visuals.stop();
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
    this.state.value = null;
    this.throughput.value = { fps: 0, kbps: 0 };
  }
}
