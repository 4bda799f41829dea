/** One stay in a room. It outlives its WebSocket: a new one takes the place of one that broke, and the media goes on meanwhile. */

import type { ConsumerInfo, Joined, Level, Method, Methods, ParticipantInfo, Path, ProducerInfo, Push, TrackSource } from "./protocol";
import { ConnectionLost, Refused, Signalling } from "./signalling";
import type { OpenSocket } from "./signalling";
import { RecvTransport, SendTransport } from "./transports";
import type { LinkState, Outgoing } from "./transports";

export interface RemoteTrack extends ProducerInfo {
  /** Holds this one track; `null` until its media is negotiated. */
  stream: MediaStream | null;
}

export interface Participant extends ParticipantInfo {
  tracks: RemoteTrack[];
}

export interface Links {
  signalling: LinkState;
  send: LinkState;
  recv: LinkState;
}

/** What is true of the room as a whole. */
export interface RoomState {
  locked: boolean;
  /** The participant to show large. */
  spotlight: string | null;
}

export interface VisitEvents {
  changed(): void;
  levels(levels: readonly Level[]): void;
  delays(paths: readonly Path[]): void;
  /** The WebSocket is gone; `join` again may work. */
  lost(): void;
  /** The room put us out; coming back would be refused or unwelcome. */
  removed(reason: string): void;
  /** Something did not work, but the visit goes on. */
  trouble(message: string): void;
}

/** In device pixels. */
export interface Tile {
  width: number;
  height: number;
}

/** Between two reports of our jitter buffers, as often as the gateway tells delays. */
const STATS_EVERY_MS = 2000;

export class Visit {
  private readonly url: string;
  private readonly open: OpenSocket;
  private readonly events: VisitEvents;
  private signalling: Signalling;
  private joined: Joined | null = null;
  private self: ParticipantInfo | null = null;
  private roomState: RoomState = { locked: false, spotlight: null };
  private send: SendTransport | null = null;
  private recv: RecvTransport | null = null;
  private heartbeat: ReturnType<typeof setInterval> | undefined;
  private stats: ReturnType<typeof setInterval> | undefined;
  /** The socket is there and has been welcomed. */
  private connected = false;
  private over = false;
  private readonly people = new Map<string, ParticipantInfo>();
  private readonly producers = new Map<string, ProducerInfo>();
  /** Consumer by producer. */
  private readonly consumers = new Map<string, string>();
  private readonly tiles: ReadonlyMap<string, Tile>;
  private watchesProgramme = false;
  /** What is there of the programme, for as long as it is the same. */
  private shown: MediaStream | null = null;
  /** Pushes that came before the answer to `join`. */
  private early: Push[] = [];

  /** `tiles` says how large each producer's picture is shown; it is the caller's and may change. */
  constructor(url: string, open: OpenSocket, events: VisitEvents, tiles: ReadonlyMap<string, Tile>) {
    this.url = url;
    this.open = open;
    this.events = events;
    this.tiles = tiles;
    this.signalling = this.dial();
  }

  /**
   * Joins, or comes back after the socket broke: in time as who we were, with everything; later as somebody new.
   *
   * Fails with `Refused` when the token is not welcome, with `ConnectionLost` when trying again may help.
   */
  async join(token: string): Promise<Joined> {
    const before = this.joined;
    if (before !== null) {
      this.hangUp();
      this.signalling = this.dial();
    }
    const signalling = this.signalling;
    const joined = await signalling.request("join", {
      token,
      ...(before === null ? {} : { resume_token: before.resume_token }),
    });
    if (this.over || signalling !== this.signalling) throw new ConnectionLost("The connection to the gateway was lost.");
    this.joined = joined;
    this.settleIn(joined);
    this.connected = true;
    for (const push of this.early.splice(0)) this.take(push);
    this.heartbeat = setInterval(() => {
      signalling.request("ping", {}).catch((error: unknown) => {
        if (error instanceof ConnectionLost) this.lose(signalling);
      });
    }, joined.heartbeat_ms);
    this.stats = setInterval(() => void this.tellStats().catch(() => undefined), STATS_EVERY_MS);
    return joined;
  }

  publish(wanted: ReadonlyMap<TrackSource, Outgoing>): void {
    this.send?.reconcile(wanted);
  }

  /** Asks the gateway something that changes nothing here until it says so. */
  async ask<M extends Method>(method: M, data: Methods[M]["ask"]): Promise<void> {
    await this.signalling.request(method, data);
  }

  /** The consumer of somebody's track. */
  consumerOf(producer: string): string | undefined {
    return this.consumers.get(producer);
  }

  /** Tells how large a producer's picture is shown, so that it comes in the size nearest to that. */
  tellTile(producer: string): void {
    const consumer = this.consumers.get(producer);
    const tile = this.tiles.get(producer);
    if (this.over || consumer === undefined || tile === undefined) return;
    // A consumer that goes meanwhile needs no size, and without one it comes in the largest.
    this.signalling.request("set_tile", { consumer_id: consumer, ...tile }).catch(() => undefined);
  }

  /** Whether we get the room's broadcast, as far as there is one and we are host. */
  watchProgramme(wanted: boolean): void {
    this.watchesProgramme = wanted;
    for (const { id } of this.programmes()) {
      const consumer = this.consumers.get(id);
      if (wanted && consumer === undefined) this.consume(id);
      else if (!wanted && consumer !== undefined) this.closeConsumer(consumer);
    }
  }

  /** The room's broadcast, while we watch it and its picture is there; its sound may join it a moment later. */
  programme(): MediaStream | null {
    const tracks = this.programmes().flatMap(({ id }) => this.streamOf(id)?.getTracks() ?? []);
    const before = this.shown?.getTracks() ?? [];
    const isSame = before.length === tracks.length && tracks.every((track) => before.includes(track));
    if (!isSame) this.shown = tracks.some(({ kind }) => kind === "video") ? new MediaStream(tracks) : null;
    return this.shown;
  }

  async leave(): Promise<void> {
    if (!this.over && this.connected) await this.signalling.request("leave", {}).catch(() => undefined);
    this.close();
  }

  /** Ends everything without telling anybody. */
  close(): void {
    this.over = true;
    this.hangUp();
    this.signalling.close();
    this.send?.close();
    this.recv?.close();
  }

  /** Whether there is a place to come back to. */
  get wasWelcome(): boolean {
    return this.joined !== null;
  }

  get links(): Links {
    if (this.joined === null) return { signalling: "connecting", send: "off", recv: "off" };
    return {
      signalling: this.connected ? "up" : "down",
      send: this.send?.state ?? "off",
      recv: this.recv?.state ?? "off",
    };
  }

  get peers(): readonly RTCPeerConnection[] {
    return [this.send?.pc, this.recv?.pc].filter((pc) => pc !== undefined);
  }

  get you(): ParticipantInfo | null {
    return this.self;
  }

  get state(): RoomState {
    return this.roomState;
  }

  /** Everybody else, in the order of joining. */
  participants(): Participant[] {
    return [...this.people.values()]
      .filter((person) => person.id !== this.self?.id)
      .map((person) => ({
        ...person,
        tracks: [...this.producers.values()]
          .filter((producer) => producer.participant === person.id)
          .map((producer) => ({ ...producer, stream: this.streamOf(producer.id) })),
      }));
  }

  private dial(): Signalling {
    this.early = [];
    const signalling: Signalling = new Signalling(
      this.url,
      { push: (push) => this.ifCurrent(signalling, () => this.take(push)), lost: () => this.lose(signalling) },
      this.open,
    );
    return signalling;
  }

  /** Puts things where the gateway says they are: all anew for a newcomer, the differences for who comes back. */
  private settleIn(joined: Joined): void {
    const kept = joined.kept ?? { send: false, recv: false, producers: [], consumers: [] };
    this.self = joined.you;
    this.roomState = { locked: joined.locked, spotlight: joined.spotlight };
    this.settleSending(joined, kept.send, kept.producers);
    this.settleReceiving(joined, kept.recv, kept.consumers);
    this.people.clear();
    for (const person of joined.participants) this.people.set(person.id, person);
    this.producers.clear();
    for (const producer of joined.producers) this.meet(producer);
  }

  private settleSending(joined: Joined, kept: boolean, producers: readonly ProducerInfo[]): void {
    if (kept && this.send !== null) {
      this.send.carryOn(this.signalling, producers);
      return;
    }
    this.send?.close();
    this.send = joined.you.role === "viewer" ? null : new SendTransport("send", ...this.line(joined));
  }

  private settleReceiving(joined: Joined, kept: boolean, consumers: readonly ConsumerInfo[]): void {
    this.consumers.clear();
    if (kept && this.recv !== null) {
      for (const consumer of consumers) this.consumers.set(consumer.producer, consumer.id);
      this.recv.carryOn(this.signalling, consumers);
      return;
    }
    this.recv?.close();
    this.recv = new RecvTransport("recv", ...this.line(joined));
  }

  private line(joined: Joined): [RTCIceServer[], Signalling, () => void, (error: unknown) => void] {
    return [joined.ice_servers, this.signalling, () => this.events.changed(), (error) => this.report(error)];
  }

  private streamOf(producer: string): MediaStream | null {
    const consumer = this.consumers.get(producer);
    return consumer === undefined ? null : (this.recv?.stream(consumer) ?? null);
  }

  private take(push: Push): void {
    if (this.over) return;
    if (push.method === "removed") {
      this.close();
      this.events.removed(push.data.reason);
      return;
    }
    if (!this.connected) {
      this.early.push(push);
      return;
    }
    if (push.method === "levels") {
      this.events.levels(push.data.levels);
      return;
    }
    if (push.method === "delays") {
      this.events.delays(push.data.paths);
      return;
    }
    this.apply(push);
    this.events.changed();
  }

  private apply(push: Exclude<Push, { method: "removed" | "levels" | "delays" }>): void {
    switch (push.method) {
      case "participant_joined":
      case "participant_updated":
        if (push.data.participant.id === this.self?.id) this.self = push.data.participant;
        else this.people.set(push.data.participant.id, push.data.participant);
        break;
      case "participant_left":
        this.people.delete(push.data.participant_id);
        for (const producer of [...this.producers.values()]) {
          if (producer.participant === push.data.participant_id) this.forget(producer.id);
        }
        break;
      case "room_updated":
        this.roomState = push.data;
        break;
      case "producer_added":
        this.meet(push.data.producer);
        break;
      case "producer_removed":
        this.forget(push.data.producer_id);
        break;
      case "producer_paused":
        this.mark(push.data.producer_id, true);
        break;
      case "producer_resumed":
        this.mark(push.data.producer_id, false);
        break;
      case "consumer_closed":
        this.dropConsumer(push.data.consumer_id);
        break;
      case "offer":
        this.recv?.answer(push.data.offer_id, push.data.sdp);
        break;
      case "transport_failed":
        // The gateway may hear nothing where the browser thinks all is well: it stays with a path that the browser has left.
        // It offers the restart of what it sends itself.
        if (push.data.transport === "send") this.send?.recover();
        break;
      case "transport_connected":
        break;
    }
  }

  private meet(producer: ProducerInfo): void {
    if (this.producers.has(producer.id) || producer.participant === this.self?.id) return;
    this.producers.set(producer.id, producer);
    // Who comes back consumes it already.
    if (this.consumers.has(producer.id)) return;
    if (producer.source !== "programme" || this.watchesProgramme) this.consume(producer.id);
  }

  private consume(producer: string): void {
    this.signalling
      .request("consume", { producer_id: producer })
      .then(({ consumer }) => {
        const known = this.producers.get(producer);
        if (known === undefined) return;
        this.consumers.set(producer, consumer.id);
        this.recv?.add(consumer);
        this.tellTile(producer);
        // Whoever changes their mind twice in a moment has asked for it twice.
        if (known.source === "programme" && !this.watchesProgramme) this.closeConsumer(consumer.id);
        this.events.changed();
      })
      .catch((error: unknown) => {
        // A producer may go while we ask for it; then it is in nobody's list any more.
        if (this.producers.has(producer)) this.report(error);
      });
  }

  private closeConsumer(consumer: string): void {
    this.dropConsumer(consumer);
    this.signalling.request("close", { consumer_id: consumer }).catch(() => undefined);
    this.events.changed();
  }

  private programmes(): ProducerInfo[] {
    return [...this.producers.values()].filter(({ source }) => source === "programme");
  }

  private forget(producer: string): void {
    this.producers.delete(producer);
    const consumer = this.consumers.get(producer);
    if (consumer !== undefined) this.recv?.remove(consumer);
    this.consumers.delete(producer);
  }

  private mark(producer: string, paused: boolean): void {
    const known = this.producers.get(producer);
    if (known !== undefined) this.producers.set(producer, { ...known, paused });
  }

  private dropConsumer(consumer: string): void {
    this.recv?.remove(consumer);
    for (const [producer, id] of this.consumers) {
      if (id === consumer) this.consumers.delete(producer);
    }
  }

  /** One report that is lost is made up for by the next. */
  private async tellStats(): Promise<void> {
    const jitter_buffers = (await this.recv?.heldBack()) ?? [];
    if (this.connected && jitter_buffers.length > 0) await this.signalling.request("stats", { jitter_buffers });
  }

  private lose(signalling: Signalling): void {
    this.ifCurrent(signalling, () => {
      if (this.over) return;
      this.hangUp();
      this.events.lost();
    });
  }

  /** The socket ends; the media does not. */
  private hangUp(): void {
    this.connected = false;
    clearInterval(this.heartbeat);
    clearInterval(this.stats);
    if (!this.over) this.signalling.abandon();
  }

  private ifCurrent(signalling: Signalling, then: () => void): void {
    if (this.signalling === signalling) then();
  }

  private report(error: unknown): void {
    // A lost connection is told by the socket itself.
    if (this.over || error instanceof ConnectionLost) return;
    const detail = error instanceof Refused || error instanceof Error ? error.message : "unknown error";
    this.events.trouble(detail);
  }
}
