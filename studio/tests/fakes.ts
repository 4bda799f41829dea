/** Stand-ins for what only a browser and a gateway have. */

import type { Push } from "../src/room/protocol";
import type { OpenSocket, Socket } from "../src/room/signalling";

interface Request {
  id: number;
  method: string;
  data: Record<string, unknown>;
}

/** A WebSocket whose other end the test plays. */
export class FakeSocket implements Socket {
  static all: FakeSocket[] = [];
  onopen: ((event: Event) => void) | null = null;
  onmessage: ((event: MessageEvent) => void) | null = null;
  onclose: ((event: CloseEvent) => void) | null = null;
  closed = false;
  readonly sent: Request[] = [];
  /** Answers by method; a method without one is left waiting. */
  readonly answers = new Map<string, (data: Record<string, unknown>) => unknown>();

  static readonly open: OpenSocket = () => {
    const socket = new FakeSocket();
    FakeSocket.all.push(socket);
    return socket;
  };

  static get last(): FakeSocket {
    const socket = FakeSocket.all.at(-1);
    if (socket === undefined) throw new Error("no socket was opened");
    return socket;
  }

  send(text: string): void {
    const request = JSON.parse(text) as Request;
    this.sent.push(request);
    const answer = this.answers.get(request.method);
    if (answer === undefined) return;
    const data = answer(request.data);
    if (data instanceof Error) this.receive({ id: request.id, ok: false, error: { code: data.name, message: data.message } });
    else this.receive({ id: request.id, ok: true, data });
  }

  close(): void {
    this.closed = true;
  }

  accept(): void {
    this.onopen?.(new Event("open"));
  }

  drop(): void {
    this.onclose?.(new Event("close") as CloseEvent);
  }

  push(push: Push): void {
    this.receive(push);
  }

  receive(frame: unknown): void {
    this.onmessage?.({ data: JSON.stringify(frame) } as MessageEvent);
  }

  methods(): string[] {
    return this.sent.map((request) => request.method);
  }

  asked(method: string): Record<string, unknown>[] {
    return this.sent.filter((request) => request.method === method).map((request) => request.data);
  }
}

export class FakeTrack {
  private static made = 0;
  readonly kind: string;
  readonly id = `track-${(FakeTrack.made += 1)}`;
  private readonly settings: MediaTrackSettings;
  constructor(kind: string, settings: MediaTrackSettings = {}) {
    this.kind = kind;
    this.settings = settings;
  }

  getSettings(): MediaTrackSettings {
    return this.settings;
  }
}

export class FakeStream {
  readonly tracks: unknown[];
  constructor(tracks: unknown[] = []) {
    this.tracks = tracks;
  }

  getTracks(): unknown[] {
    return this.tracks;
  }
}

interface FakeTransceiver {
  mid: string | null;
  currentDirection: string | null;
  sender: { track: unknown; replaceTrack(track: unknown): Promise<void> };
  receiver: { track: FakeTrack };
}

/** Negotiates nothing, but keeps the order and the states of a real peer connection. */
export class FakePeer {
  static all: FakePeer[] = [];
  connectionState = "new";
  signalingState = "stable";
  onicecandidate: ((event: { candidate: { candidate: string } | null }) => void) | null = null;
  onconnectionstatechange: (() => void) | null = null;
  ontrack: unknown = null;
  remote: string[] = [];
  offers: unknown[] = [];
  encodings: RTCRtpEncodingParameters[][] = [];
  readonly transceivers: FakeTransceiver[] = [];
  /** What `getStats` tells. */
  readonly stats: object[] = [];

  constructor() {
    FakePeer.all.push(this);
  }

  addTransceiver(track: FakeTrack, init?: RTCRtpTransceiverInit): FakeTransceiver {
    this.encodings.push(init?.sendEncodings ?? []);
    const sender = {
      track: track as unknown,
      replaceTrack: (next: unknown) => {
        sender.track = next;
        return Promise.resolve();
      },
    };
    const transceiver = { mid: null, currentDirection: null, sender, receiver: { track } };
    this.transceivers.push(transceiver);
    return transceiver;
  }

  getStats(): Promise<Map<number, object>> {
    return Promise.resolve(new Map(this.stats.entries()));
  }

  getTransceivers(): FakeTransceiver[] {
    return this.transceivers;
  }

  createOffer(options: unknown): Promise<{ sdp: string }> {
    this.offers.push(options);
    return Promise.resolve({ sdp: "v=0\r\n" });
  }

  createAnswer(): Promise<{ sdp: string }> {
    return Promise.resolve({ sdp: "v=0\r\n" });
  }

  setLocalDescription(): Promise<void> {
    this.transceivers.forEach((each, index) => (each.mid ??= String(index)));
    return Promise.resolve();
  }

  /** An offer made of `mid:kind` words stands for m-lines. */
  setRemoteDescription({ sdp }: { sdp: string }): Promise<void> {
    this.remote.push(sdp);
    for (const [, mid, kind] of sdp.matchAll(/(\d+):(audio|video)/g)) {
      if (this.transceivers.some((each) => each.mid === mid)) continue;
      const transceiver = this.addTransceiver(new FakeTrack(kind ?? ""));
      transceiver.mid = mid ?? null;
      transceiver.currentDirection = "recvonly";
    }
    return Promise.resolve();
  }

  close(): void {
    this.connectionState = "closed";
  }

  become(state: string): void {
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }
}
