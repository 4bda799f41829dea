/** The gateway's REST API, as far as the studio needs it; every failure is a `Problem`. */

import { Problem, problemOf } from "./problem";
import { serverEvents } from "./sse";
import type {
  Destination,
  Meters,
  NewDestination,
  NewStream,
  NewToken,
  Platform,
  Recording,
  RoomToken,
  StreamChange,
  StreamSnapshot,
  Tier,
} from "./types";

const BASE = "/api/v1";

/** What is told about a stream that is watched. */
export type StreamNews = { snapshot: StreamSnapshot } | { meters: Meters };

export class Gateway {
  private readonly token: string;

  constructor(token: string) {
    this.token = token;
  }

  platforms(): Promise<Platform[]> {
    return this.list<Platform>("/platforms");
  }

  tiers(): Promise<Tier[]> {
    return this.list<Tier>("/tiers");
  }

  destinations(): Promise<Destination[]> {
    return this.list<Destination>("/destinations");
  }

  addDestination(destination: NewDestination): Promise<Destination> {
    return this.json<Destination>("POST", "/destinations", destination);
  }

  replaceKey(id: string, key: string): Promise<void> {
    return this.nothing("PUT", `/destinations/${encodeURIComponent(id)}/key`, { key });
  }

  setPrimary(id: string, primary: boolean): Promise<Destination> {
    return this.json<Destination>("PATCH", `/destinations/${encodeURIComponent(id)}`, { primary });
  }

  removeDestination(id: string): Promise<void> {
    return this.nothing("DELETE", `/destinations/${encodeURIComponent(id)}`);
  }

  streams(): Promise<StreamSnapshot[]> {
    return this.list<StreamSnapshot>("/streams");
  }

  createStream(stream: NewStream): Promise<StreamSnapshot> {
    return this.json<StreamSnapshot>("POST", "/streams", stream, { "idempotency-key": crypto.randomUUID() });
  }

  startStream(id: string): Promise<StreamSnapshot> {
    return this.json<StreamSnapshot>("POST", `/streams/${encodeURIComponent(id)}/start`);
  }

  stopStream(id: string): Promise<StreamSnapshot> {
    return this.json<StreamSnapshot>("POST", `/streams/${encodeURIComponent(id)}/stop`);
  }

  directStream(id: string, change: StreamChange): Promise<StreamSnapshot> {
    return this.json<StreamSnapshot>("PATCH", `/streams/${encodeURIComponent(id)}`, change);
  }

  addToStream(id: string, destination: string): Promise<StreamSnapshot> {
    return this.json<StreamSnapshot>("PUT", `/streams/${encodeURIComponent(id)}/destinations/${encodeURIComponent(destination)}`);
  }

  removeFromStream(id: string, destination: string): Promise<StreamSnapshot> {
    return this.json<StreamSnapshot>("DELETE", `/streams/${encodeURIComponent(id)}/destinations/${encodeURIComponent(destination)}`);
  }

  removeStream(id: string): Promise<void> {
    return this.nothing("DELETE", `/streams/${encodeURIComponent(id)}`);
  }

  /** Every change of a stream and how loud it is, until it ends or `signal` aborts; fails when the connection is lost. */
  async *watchStream(id: string, signal: AbortSignal): AsyncGenerator<StreamNews> {
    const path = `/streams/${encodeURIComponent(id)}/events?meters=true`;
    const response = await this.fetch("GET", path, undefined, { accept: "text/event-stream" }, signal);
    if (response.body === null) return;
    for await (const { event, data } of serverEvents(response.body)) {
      if (event === "snapshot") yield { snapshot: JSON.parse(data) as StreamSnapshot };
      if (event === "meters") yield { meters: JSON.parse(data) as Meters };
    }
  }

  recordings(): Promise<Recording[]> {
    return this.list<Recording>("/recordings");
  }

  /** The file itself; `file_url` may be absolute or a path, and only its path is used, so the token stays at home. */
  recordingFile(recording: Recording, signal?: AbortSignal): Promise<Response> {
    return this.file(recording.file_url, signal);
  }

  /** A recording's picture; `null` if it has none. */
  async poster(recording: Recording, signal: AbortSignal): Promise<Blob | null> {
    if (recording.poster_url === null) return null;
    return (await this.file(recording.poster_url, signal)).blob();
  }

  private file(url: string, signal?: AbortSignal): Promise<Response> {
    const { pathname, search } = new URL(url, window.location.href);
    return this.send("GET", pathname + search, undefined, {}, signal);
  }

  invite(room: string, token: NewToken): Promise<RoomToken> {
    return this.json<RoomToken>("POST", `/rooms/${encodeURIComponent(room)}/tokens`, token);
  }

  /** Whole lists: a room has tens of these, not thousands. The bound keeps a faulty cursor from looping for ever. */
  private async list<T>(path: string): Promise<T[]> {
    const all: T[] = [];
    let cursor: string | null = null;
    for (let page = 0; page < 20; page += 1) {
      const query: string = cursor === null ? "?limit=50" : `?limit=50&cursor=${encodeURIComponent(cursor)}`;
      const answer: { data: T[]; next_cursor?: string | null } = await this.json("GET", path + query);
      all.push(...answer.data);
      cursor = answer.next_cursor ?? null;
      if (cursor === null) break;
    }
    return all;
  }

  private async json<T>(method: string, path: string, body?: unknown, headers: HeadersInit = {}): Promise<T> {
    const response = await this.fetch(method, path, body, headers);
    return (await response.json()) as T;
  }

  private async nothing(method: string, path: string, body?: unknown): Promise<void> {
    await this.fetch(method, path, body);
  }

  private fetch(
    method: string,
    path: string,
    body?: unknown,
    headers: HeadersInit = {},
    signal?: AbortSignal,
  ): Promise<Response> {
    return this.send(method, BASE + path, body, headers, signal);
  }

  private async send(
    method: string,
    url: string,
    body: unknown,
    headers: HeadersInit,
    signal?: AbortSignal,
  ): Promise<Response> {
    const all = new Headers(headers);
    all.set("authorization", `Bearer ${this.token}`);
    const init: RequestInit = { method, headers: all, cache: "no-store", referrerPolicy: "no-referrer" };
    if (body !== undefined) {
      all.set("content-type", "application/json");
      init.body = JSON.stringify(body);
    }
    if (signal) init.signal = signal;
    let response: Response;
    try {
      response = await fetch(url, init);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Problem(0, {});
    }
    if (!response.ok) throw await problemOf(response);
    return response;
  }
}
