/** One stay in a room: from a WebSocket that opens to one that closes. A reconnect is a new visit. */

import type { Joined, ParticipantInfo, ProducerInfo, Push, TrackSource } from "./protocol";
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

export interface VisitEvents {
  changed(): void;
  /** The WebSocket is gone; a new visit may work. */
  lost(): void;
  /** The room put us out; a new visit would be refused or unwelcome. */
  removed(reason: string): void;
  /** Something did not work, but the visit goes on. */
  trouble(message: string): void;
}

export class Visit {
  private readonly signalling: Signalling;
  private readonly events: VisitEvents;
  private joined: Joined | null = null;
  private send: SendTransport | null = null;
  private recv: RecvTransport | null = null;
  private heartbeat: ReturnType<typeof setInterval> | undefined;
  private over = false;
  private readonly people = new Map<string, ParticipantInfo>();
  private readonly producers = new Map<string, ProducerInfo>();
  /** Consumer by producer. */
  private readonly consumers = new Map<string, string>();
  /** Pushes that came before the answer to `join`. */
  private early: Push[] = [];

  constructor(url: string, open: OpenSocket, events: VisitEvents) {
    this.events = events;
    this.signalling = new Signalling(url, { push: (push) => this.take(push), lost: () => this.lose() }, open);
  }

  /** Fails with `Refused` when the token is not welcome, with `ConnectionLost` when trying again may help. */
  async join(token: string): Promise<Joined> {
    const joined = await this.signalling.request("join", { token });
    if (this.over) throw new ConnectionLost("The connection to the gateway was lost.");
    this.joined = joined;
    const servers = joined.ice_servers;
    const changed = (): void => this.events.changed();
    const failed = (error: unknown): void => this.report(error);
    this.recv = new RecvTransport("recv", servers, this.signalling, changed, failed);
    if (joined.role !== "viewer") this.send = new SendTransport("send", servers, this.signalling, changed, failed);
    for (const person of joined.participants) this.people.set(person.id, person);
    for (const producer of joined.producers) this.meet(producer);
    for (const push of this.early) this.take(push);
    this.early = [];
    this.heartbeat = setInterval(() => {
      this.signalling.request("ping", {}).catch((error: unknown) => {
        if (error instanceof ConnectionLost) this.lose();
      });
    }, joined.heartbeat_ms);
    return joined;
  }

  publish(wanted: ReadonlyMap<TrackSource, Outgoing>): void {
    this.send?.reconcile(wanted);
  }

  async leave(): Promise<void> {
    if (!this.over) await this.signalling.request("leave", {}).catch(() => undefined);
    this.close();
  }

  /** Ends everything without telling anybody. */
  close(): void {
    this.over = true;
    clearInterval(this.heartbeat);
    this.signalling.close();
    this.send?.close();
    this.recv?.close();
  }

  get links(): Links {
    if (this.joined === null) return { signalling: "connecting", send: "off", recv: "off" };
    return {
      signalling: this.over ? "down" : "up",
      send: this.send?.state ?? "off",
      recv: this.recv?.state ?? "off",
    };
  }

  get peers(): readonly RTCPeerConnection[] {
    return [this.send?.pc, this.recv?.pc].filter((pc) => pc !== undefined);
  }

  /** Everybody else, in the order of joining. */
  participants(): Participant[] {
    const self = this.joined?.participant_id;
    return [...this.people.values()]
      .filter((person) => person.id !== self)
      .map((person) => ({
        ...person,
        tracks: [...this.producers.values()]
          .filter((producer) => producer.participant === person.id)
          .map((producer) => ({ ...producer, stream: this.streamOf(producer.id) })),
      }));
  }

  private streamOf(producer: string): MediaStream | null {
    const consumer = this.consumers.get(producer);
    return consumer === undefined ? null : (this.recv?.stream(consumer) ?? null);
  }

  private take(push: Push): void {
    if (this.over) return;
    if (this.joined === null && push.method !== "removed") {
      this.early.push(push);
      return;
    }
    switch (push.method) {
      case "participant_joined":
        this.people.set(push.data.participant.id, push.data.participant);
        break;
      case "participant_left":
        this.people.delete(push.data.participant_id);
        for (const producer of [...this.producers.values()]) {
          if (producer.participant === push.data.participant_id) this.forget(producer.id);
        }
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
      case "removed":
        this.close();
        this.events.removed(push.data.reason);
        return;
      case "transport_failed":
        // The gateway may hear nothing where the browser thinks all is well: it stays with a path that the browser has left.
        // It offers the restart of what it sends itself.
        if (push.data.transport === "send") this.send?.recover();
        break;
      case "transport_connected":
        break;
    }
    this.events.changed();
  }

  private meet(producer: ProducerInfo): void {
    if (this.producers.has(producer.id) || producer.participant === this.joined?.participant_id) return;
    this.producers.set(producer.id, producer);
    this.signalling
      .request("consume", { producer_id: producer.id })
      .then(({ consumer }) => {
        if (!this.producers.has(producer.id)) return;
        this.consumers.set(producer.id, consumer.id);
        this.recv?.add(consumer);
        this.events.changed();
      })
      .catch((error: unknown) => {
        // A producer may go while we ask for it; then it is in nobody's list any more.
        if (this.producers.has(producer.id)) this.report(error);
      });
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

  private lose(): void {
    if (this.over) return;
    this.close();
    this.events.lost();
  }

  private report(error: unknown): void {
    // A lost connection is told by the socket itself.
    if (this.over || error instanceof ConnectionLost) return;
    const detail = error instanceof Refused || error instanceof Error ? error.message : "unknown error";
    this.events.trouble(detail);
  }
}
