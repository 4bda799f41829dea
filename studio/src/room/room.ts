/** A room as the studio knows it: join once, stay joined through lost connections, always one plain picture of how things are. */

import { retryDelay } from "./backoff";
import type { RoomRole, TrackSource } from "./protocol";
import { Refused } from "./signalling";
import type { OpenSocket } from "./signalling";
import type { Outgoing } from "./transports";
import { Visit } from "./visit";
import type { Links, Participant } from "./visit";

export type Phase =
  | { name: "outside" }
  | { name: "joining" }
  | { name: "inside" }
  /** The connection was lost; the next attempt is due at `retryAt` (milliseconds since the epoch). */
  | { name: "reconnecting"; attempt: number; retryAt: number }
  /** The gateway does not want this token; trying again would not help. */
  | { name: "refused"; code: string; message: string }
  | { name: "removed"; reason: string }
  | { name: "left" };

export interface RoomView {
  phase: Phase;
  room: string | null;
  self: { id: string; name: string; role: RoomRole } | null;
  /** Everybody else. */
  participants: Participant[];
  links: Links;
}

export interface Quality {
  /** Milliseconds to the gateway and back. */
  roundTripMs: number | null;
  /** Share of received packets that were lost since the last call, 0 to 1. */
  loss: number | null;
}

export interface RoomOptions {
  /** `wss://host/media-relay`. */
  url: string;
  token: string;
  openSocket?: OpenSocket;
  now?: () => number;
  random?: () => number;
}

const NO_LINKS: Links = { signalling: "off", send: "off", recv: "off" };
const LOST_LINKS: Links = { signalling: "down", send: "down", recv: "down" };

/** Refusals that pass by themselves: the gateway is busy, not unwilling. */
const PASSING = new Set(["overloaded", "rate_limited", "unavailable", "timeout", "internal"]);

export class Room {
  private readonly options: Required<RoomOptions>;
  private readonly wanted = new Map<TrackSource, Outgoing>();
  private readonly views = new Set<(view: RoomView) => void>();
  private readonly troubles = new Set<(message: string) => void>();
  private visit: Visit | null = null;
  private phase: Phase = { name: "outside" };
  private identity: Pick<RoomView, "room" | "self"> = { room: null, self: null };
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private attempt = 0;
  private packets = { lost: 0, received: 0 };

  constructor(options: RoomOptions) {
    this.options = {
      openSocket: (url, protocol) => new WebSocket(url, protocol),
      now: Date.now,
      random: Math.random,
      ...options,
    };
  }

  get view(): RoomView {
    return {
      phase: this.phase,
      ...this.identity,
      participants: this.visit?.participants() ?? [],
      links: this.visit?.links ?? (this.phase.name === "reconnecting" ? LOST_LINKS : NO_LINKS),
    };
  }

  /** Called at every change, until the returned function is called. */
  subscribe(listener: (view: RoomView) => void): () => void {
    this.views.add(listener);
    return () => this.views.delete(listener);
  }

  /** Called with what did not work while the visit goes on. */
  onTrouble(listener: (message: string) => void): () => void {
    this.troubles.add(listener);
    return () => this.troubles.delete(listener);
  }

  join(): void {
    if (this.phase.name === "inside" || this.phase.name === "joining") return;
    this.attempt = 0;
    void this.enter();
  }

  /** Does not wait for the back-off: somebody pressed a button, or the network came back. */
  retryNow(): void {
    if (this.phase.name === "reconnecting") void this.enter();
  }

  /** Sends this track as `source` from now on, also after a reconnect; `null` stops sending it. The track stays the caller's. */
  setTrack(source: TrackSource, track: MediaStreamTrack | null): void {
    const paused = this.wanted.get(source)?.paused ?? false;
    this.wanted.set(source, { track, paused });
    this.visit?.publish(this.wanted);
  }

  setPaused(source: TrackSource, paused: boolean): void {
    const track = this.wanted.get(source)?.track ?? null;
    this.wanted.set(source, { track, paused });
    this.visit?.publish(this.wanted);
  }

  async leave(): Promise<void> {
    clearTimeout(this.retryTimer);
    const visit = this.visit;
    this.visit = null;
    this.become({ name: "left" });
    await visit?.leave();
  }

  async quality(): Promise<Quality> {
    let roundTripMs: number | null = null;
    let lost = 0;
    let received = 0;
    for (const pc of this.visit?.peers ?? []) {
      for (const report of (await pc.getStats()).values()) {
        if (report.type === "candidate-pair" && report.nominated && report.currentRoundTripTime !== undefined) {
          const ms = report.currentRoundTripTime * 1000;
          roundTripMs = roundTripMs === null ? ms : Math.max(roundTripMs, ms);
        } else if (report.type === "inbound-rtp") {
          lost += report.packetsLost ?? 0;
          received += report.packetsReceived ?? 0;
        }
      }
    }
    const lostNow = Math.max(0, lost - this.packets.lost);
    const due = lostNow + Math.max(0, received - this.packets.received);
    this.packets = { lost, received };
    return { roundTripMs, loss: due > 0 ? lostNow / due : null };
  }

  private async enter(): Promise<void> {
    clearTimeout(this.retryTimer);
    this.visit?.close();
    if (this.attempt === 0) this.become({ name: "joining" });
    const visit: Visit = new Visit(this.options.url, this.options.openSocket, {
      changed: () => this.ifCurrent(visit, () => this.tell()),
      lost: () => this.ifCurrent(visit, () => this.retryLater()),
      removed: (reason) => this.ifCurrent(visit, () => this.end({ name: "removed", reason })),
      trouble: (message) => this.ifCurrent(visit, () => this.troubles.forEach((listener) => listener(message))),
    });
    this.visit = visit;
    try {
      const joined = await visit.join(this.options.token);
      this.ifCurrent(visit, () => {
        this.attempt = 0;
        this.identity = {
          room: joined.room,
          self: { id: joined.participant_id, name: joined.name, role: joined.role },
        };
        this.become({ name: "inside" });
        visit.publish(this.wanted);
      });
    } catch (error) {
      this.ifCurrent(visit, () => {
        if (error instanceof Refused && !PASSING.has(error.code)) {
          this.end({ name: "refused", code: error.code, message: error.message });
        } else {
          this.retryLater();
        }
      });
    }
  }

  private retryLater(): void {
    this.visit?.close();
    this.visit = null;
    const delay = retryDelay(this.attempt, this.options.random);
    this.attempt += 1;
    this.become({ name: "reconnecting", attempt: this.attempt, retryAt: this.options.now() + delay });
    this.retryTimer = setTimeout(() => void this.enter(), delay);
  }

  private end(phase: Phase): void {
    this.visit?.close();
    this.visit = null;
    this.become(phase);
  }

  private ifCurrent(visit: Visit, then: () => void): void {
    if (this.visit === visit) then();
  }

  private become(phase: Phase): void {
    this.phase = phase;
    this.tell();
  }

  private tell(): void {
    const view = this.view;
    for (const listener of this.views) listener(view);
  }
}
