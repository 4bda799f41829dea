/** A room as the studio knows it: join once, stay joined through lost connections, always one plain picture of how things are. */

import { retryDelay } from "./backoff";
import type { CameraForm } from "./pictures";
import type { Level, MediaKind, ParticipantInfo, Path, TrackSource } from "./protocol";
import { ConnectionLost, Refused } from "./signalling";
import type { OpenSocket } from "./signalling";
import type { Outgoing } from "./transports";
import { Visit } from "./visit";
import type { Links, Participant, RoomState, Tile } from "./visit";

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
  self: ParticipantInfo | null;
  /** Everybody else. */
  participants: Participant[];
  state: RoomState;
  /** The room's broadcast, while we watch it: its picture, and its sound as soon as that is there. */
  programme: MediaStream | null;
  links: Links;
}

export interface Quality {
  /** Milliseconds to the gateway and back. */
  roundTripMs: number | null;
  /** Share of received packets that were lost since the last call, 0 to 1. */
  loss: number | null;
}

/** What a host may decide. Each fails with `Refused` when the gateway does not allow it. */
export interface Decisions {
  /** Holds back what somebody sends of a kind; it cannot undo that. */
  mute(participant: string, kind: MediaKind, muted: boolean): Promise<void>;
  /** Whether only hosts see and hear somebody; the programme does not then. */
  isolate(participant: string, isolated: boolean): Promise<void>;
  /** Whom everybody shows large; `null` nobody. */
  spotlight(participant: string | null): Promise<void>;
  /** Whether only hosts may come in. */
  lock(locked: boolean): Promise<void>;
  kick(participant: string): Promise<void>;
  /** Out for as long as the room is open. */
  ban(participant: string): Promise<void>;
  /** Makes a musician host, and us a musician. */
  transferHost(participant: string): Promise<void>;
}

export interface RoomOptions {
  /** `wss://host/media-relay`. */
  url: string;
  token: string;
  openSocket?: OpenSocket;
  now?: () => number;
  random?: () => number;
}

const OPEN: RoomState = { locked: false, spotlight: null };
const NO_LINKS: Links = { signalling: "off", send: "off", recv: "off" };

/** Refusals that pass by themselves: the gateway is busy, not unwilling. */
const PASSING = new Set(["overloaded", "rate_limited", "unavailable", "timeout", "internal"]);

export class Room {
  private readonly options: Required<RoomOptions>;
  private readonly wanted = new Map<TrackSource, Outgoing>();
  private readonly tiles = new Map<string, Tile>();
  private readonly views = new Set<(view: RoomView) => void>();
  private readonly ears = new Set<(levels: readonly Level[]) => void>();
  private readonly tables = new Set<(paths: readonly Path[]) => void>();
  private readonly troubles = new Set<(message: string) => void>();
  private visit: Visit | null = null;
  private watchesProgramme = false;
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
      state: this.visit?.state ?? OPEN,
      programme: this.visit?.programme() ?? null,
      links: this.visit?.links ?? NO_LINKS,
    };
  }

  /** Called at every change, until the returned function is called. */
  subscribe(listener: (view: RoomView) => void): () => void {
    this.views.add(listener);
    return () => this.views.delete(listener);
  }

  /** Called a few times a second with who is loud, and once with nobody when all are silent. */
  onLevels(listener: (levels: readonly Level[]) => void): () => void {
    this.ears.add(listener);
    return () => this.ears.delete(listener);
  }

  /** Called every few seconds with how late everybody hears everybody else; in large rooms with our own paths only. */
  onDelays(listener: (paths: readonly Path[]) => void): () => void {
    this.tables.add(listener);
    return () => this.tables.delete(listener);
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
    const known = this.wanted.get(source) ?? { paused: false };
    this.wanted.set(source, { ...known, track });
    this.visit?.publish(this.wanted);
  }

  /** How the camera is sent from the next time on that it is offered; what is on its way stays as it is. */
  setCameraForm(form: CameraForm): void {
    const known = this.wanted.get("camera") ?? { track: null, paused: false };
    this.wanted.set("camera", { ...known, form });
  }

  setPaused(source: TrackSource, paused: boolean): void {
    const known = this.wanted.get(source) ?? { track: null };
    this.wanted.set(source, { ...known, paused });
    this.visit?.publish(this.wanted);
  }

  readonly decide: Decisions = {
    mute: async (participant_id, kind, muted) => this.inside.ask("mute", { participant_id, kind, muted }),
    isolate: async (participant_id, isolated) => this.inside.ask("isolate", { participant_id, isolated }),
    spotlight: async (participant_id) => this.inside.ask("spotlight", { participant_id }),
    lock: async (locked) => this.inside.ask("lock", { locked }),
    kick: async (participant_id) => this.inside.ask("kick", { participant_id }),
    ban: async (participant_id) => this.inside.ask("ban", { participant_id }),
    transferHost: async (participant_id) => this.inside.ask("transfer_host", { participant_id }),
  };

  /** How much a track of somebody matters to us where bandwidth is short, 0 to 255; 128 unless said otherwise. */
  async prioritise(track: string, priority: number): Promise<void> {
    const consumer_id = this.visit?.consumerOf(track);
    if (consumer_id !== undefined) await this.inside.ask("priority", { consumer_id, priority });
  }

  /** Says how large a producer's picture is shown, in device pixels. */
  setTile(producer: string, tile: Tile): void {
    const known = this.tiles.get(producer);
    if (known?.width === tile.width && known.height === tile.height) return;
    this.tiles.set(producer, tile);
    this.visit?.tellTile(producer);
  }

  /** Whether a host gets the room's broadcast, also after a reconnect. */
  watchProgramme(wanted: boolean): void {
    this.watchesProgramme = wanted;
    this.visit?.watchProgramme(wanted);
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
    this.retryTimer = undefined;
    if (this.attempt === 0) this.become({ name: "joining" });
    // Who was inside comes back to the same visit; everybody else begins a new one.
    const visit = this.visit?.wasWelcome ? this.visit : this.newVisit();
    this.visit = visit;
    try {
      const joined = await visit.join(this.options.token);
      this.ifCurrent(visit, () => {
        this.attempt = 0;
        this.identity = { room: joined.room, self: joined.you };
        this.become({ name: "inside" });
        visit.publish(this.wanted);
      });
    } catch (error) {
      this.ifCurrent(visit, () => {
        if (error instanceof Refused && !PASSING.has(error.code)) {
          this.end({ name: "refused", code: error.code, message: error.message });
        } else if (this.retryTimer === undefined) {
          // Otherwise the socket itself has told already.
          this.retryLater();
        }
      });
    }
  }

  private newVisit(): Visit {
    this.visit?.close();
    const visit: Visit = new Visit(this.options.url, this.options.openSocket, {
      changed: () => this.ifCurrent(visit, () => this.tell()),
      levels: (levels) => this.ifCurrent(visit, () => this.ears.forEach((listener) => listener(levels))),
      delays: (paths) => this.ifCurrent(visit, () => this.tables.forEach((listener) => listener(paths))),
      lost: () => this.ifCurrent(visit, () => this.retryLater()),
      removed: (reason) => this.ifCurrent(visit, () => this.end({ name: "removed", reason })),
      trouble: (message) => this.ifCurrent(visit, () => this.troubles.forEach((listener) => listener(message))),
    }, this.tiles);
    visit.watchProgramme(this.watchesProgramme);
    return visit;
  }

  private get inside(): Visit {
    if (this.visit === null || this.phase.name !== "inside") throw new ConnectionLost("You are not in the room.");
    return this.visit;
  }

  private retryLater(): void {
    clearTimeout(this.retryTimer);
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
    const self = this.visit?.you;
    if (self) this.identity = { ...this.identity, self };
    const view = this.view;
    for (const listener of this.views) listener(view);
  }
}
