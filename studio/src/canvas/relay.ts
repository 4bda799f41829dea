/** A canvas on its way to the gateway: never more than it asks for, always the newest picture, back after a broken line. */

import { retryDelay } from "../room/backoff";
import { pack } from "./frame";
import type { CanvasFormat, CanvasFrame } from "./frame";

export const SUBPROTOCOL = "jamcast-canvas.v1";

/** Close code of a gateway that refused for good; any other end is worth another try. */
const REFUSED = 1008;

/** Bytes the browser has not sent may hold this much of a second: more is delay that the gateway cannot see. */
const UNSENT_S = 0.15;

/** Without being asked a keyframe comes at least so often, so that a decoder that stumbled is soon right again. */
const KEYFRAME_MS = 4000;

export interface Pace {
  max_fps: number;
  max_kbps: number;
  scale: number;
}

export type RelayState =
  | { name: "connecting" }
  /** The gateway has the canvas; no broadcast shows it. */
  | { name: "unwatched" }
  | { name: "watched"; pace: Pace }
  | { name: "refused"; message: string }
  | { name: "closed" };

export interface Picture {
  key: boolean;
  timestampUs: number;
  pace: Pace;
}

/** Turns what a canvas shows into frames. */
export interface Encoder {
  /** Encodes the canvas as it is now; frames come to `emit` in their order, and some may be left out. */
  encode(picture: Picture): void;
  emit: (frame: CanvasFrame) => void;
  /** It cannot go on. */
  fail: (reason: string) => void;
  close(): void;
}

/** The part of `WebSocket` used here, so that tests can stand in for it. */
export interface Socket {
  readonly bufferedAmount: number;
  send(message: string | ArrayBuffer): void;
  close(): void;
  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
}

export interface World {
  open(): Socket;
  /** An encoder for the best of these formats. */
  encoder(formats: CanvasFormat[]): Promise<Encoder>;
  now(): number;
  /** Calls back after so many milliseconds; the answer stops it. */
  after(ms: number, then: () => void): () => void;
}

export const browser = (url: string, encoder: World["encoder"]): World => ({
  open() {
    const socket = new WebSocket(url, SUBPROTOCOL);
    socket.binaryType = "arraybuffer";
    return socket;
  },
  encoder,
  now: () => performance.now(),
  after(ms, then) {
    const timer = setTimeout(then, ms);
    return () => clearTimeout(timer);
  },
});

type FromGateway =
  | { type: "opened"; formats: CanvasFormat[] }
  | { type: "credit"; frames: number }
  | ({ type: "pace" } & Pace)
  | { type: "keyframe" }
  | { type: "dropped"; reason: string }
  | { type: "refused"; code: string; message: string };

export class CanvasRelay {
  /** Frames and bytes sent, and frames that the gateway could not use. */
  readonly sent = { frames: 0, bytes: 0, dropped: 0 };

  private readonly world: World;
  private readonly token: string;
  private readonly tell: (state: RelayState) => void;
  private socket: Socket | null = null;
  private encoder: Encoder | null = null;
  private refusal: string | null = null;
  private pace: Pace = { max_fps: 0, max_kbps: 0, scale: 1 };
  private credits = 0;
  /** When the pictures that are being encoded were drawn. */
  private encoding: number[] = [];
  private keyWanted = true;
  private keyAt = -Infinity;
  private attempt = 0;
  private stopTimer: (() => void) | null = null;
  private due = 0;
  private closed = false;

  constructor(world: World, token: string, tell: (state: RelayState) => void) {
    this.world = world;
    this.token = token;
    this.tell = tell;
    this.connect();
  }

  close(): void {
    this.closed = true;
    this.reset();
    this.socket?.close();
    this.tell({ name: "closed" });
  }

  private connect(): void {
    this.tell({ name: "connecting" });
    const socket = this.world.open();
    this.socket = socket;
    socket.onopen = () => socket.send(JSON.stringify({ type: "open", token: this.token }));
    socket.onmessage = ({ data }) => {
      if (this.socket === socket && typeof data === "string") void this.hear(JSON.parse(data) as FromGateway);
    };
    socket.onclose = ({ code }) => {
      if (this.socket !== socket || this.closed) return;
      this.reset();
      if (code === REFUSED) {
        this.tell({ name: "refused", message: this.refusal ?? "The gateway does not take this canvas." });
        return;
      }
      this.tell({ name: "connecting" });
      this.stopTimer = this.world.after(retryDelay(this.attempt++), () => this.connect());
    };
  }

  private reset(): void {
    this.stopTimer?.();
    this.stopTimer = null;
    this.encoder?.close();
    this.encoder = null;
    this.credits = 0;
    this.encoding = [];
    this.pace = { max_fps: 0, max_kbps: 0, scale: 1 };
  }

  private async hear(message: FromGateway): Promise<void> {
    switch (message.type) {
      case "opened":
        this.attempt = 0;
        await this.begin(message.formats);
        break;
      case "credit":
        this.credits += message.frames;
        break;
      case "pace": {
        const { max_fps, max_kbps, scale } = message;
        this.pace = { max_fps, max_kbps, scale };
        this.tell(max_fps === 0 ? { name: "unwatched" } : { name: "watched", pace: this.pace });
        this.schedule();
        break;
      }
      case "keyframe":
        this.keyWanted = true;
        break;
      case "dropped":
        this.sent.dropped += 1;
        break;
      case "refused":
        this.refusal = message.message;
        break;
    }
  }

  private async begin(formats: CanvasFormat[]): Promise<void> {
    const socket = this.socket;
    const encoder = await this.world.encoder(formats);
    if (this.socket !== socket || this.closed) {
      encoder.close();
      return;
    }
    encoder.emit = (frame) => this.send(frame);
    encoder.fail = (reason) => {
      this.refusal = reason;
      this.reset();
      this.socket?.close();
      this.tell({ name: "refused", message: reason });
    };
    this.encoder = encoder;
    this.keyWanted = true;
    this.schedule();
  }

  /** Draws the next picture when its time comes, counted from the last one's, so that no pause adds up. */
  private schedule(): void {
    this.stopTimer?.();
    this.stopTimer = null;
    if (this.encoder === null || this.pace.max_fps === 0) return;
    const interval = 1000 / this.pace.max_fps;
    const now = this.world.now();
    // A timer that came late is made up for, a pause is not.
    this.due = this.due < now - interval ? now : Math.min(this.due, now + interval);
    this.stopTimer = this.world.after(Math.max(0, this.due - now), () => {
      this.draw(this.due);
      this.due += interval;
      this.schedule();
    });
  }

  /** `due` is when the picture's turn is: the stamps of a timer that comes a little early or late would make the broadcast stutter. */
  private draw(due: number): void {
    const unsent = (this.socket?.bufferedAmount ?? 0) * 8;
    const late = unsent > this.pace.max_kbps * 1000 * UNSENT_S;
    if (this.encoder === null || late || this.encoding.length >= this.credits) return;
    const now = this.world.now();
    const key = this.keyWanted || now - this.keyAt >= KEYFRAME_MS;
    if (key) {
      this.keyWanted = false;
      this.keyAt = now;
    }
    const timestampUs = Math.round(due * 1000);
    this.encoding.push(timestampUs);
    this.encoder.encode({ key, timestampUs, pace: this.pace });
  }

  private send(frame: CanvasFrame): void {
    // An encoder may leave pictures out; those before this one will not come any more.
    this.encoding = this.encoding.filter((drawn) => drawn > frame.timestampUs);
    if (this.socket === null || this.credits === 0) {
      // What builds on this one would be of no use.
      this.keyWanted = true;
      return;
    }
    this.credits -= 1;
    this.sent.frames += 1;
    this.sent.bytes += frame.data.byteLength;
    this.socket.send(pack(frame));
  }
}
