/** One WebSocket to the gateway: requests with their answers, pushes, and the news that it is over. */

import { Pace } from "./pace";
import { parseFrame, SUBPROTOCOL } from "./protocol";
import type { Method, Methods, Push, Reply } from "./protocol";

/** An answer later than this is no answer: the server answers within milliseconds. */
const ANSWER_TIMEOUT_MS = 10_000;

/** Close codes: with the first one the gateway gives the place up, with the second it keeps it for a while. */
const LEFT = 1000;
const ABANDONED = 4000;

/** A request the server refused. */
export class Refused extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = "Refused";
    this.code = code;
  }
}

/** The WebSocket closed, never opened or stayed silent; trying again may help. */
export class ConnectionLost extends Error {
  constructor(message: string) {
    super(message);
    this.name = "ConnectionLost";
  }
}

/** The part of `WebSocket` used here, so that tests can stand in for it. */
export interface Socket {
  send(text: string): void;
  close(code?: number): void;
  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
}

export type OpenSocket = (url: string, protocol: string) => Socket;

export interface Listener {
  push(push: Push): void;
  /** Told once, and only when the socket closes without `close()` having been called. */
  lost(): void;
}

interface Waiting {
  resolve(data: unknown): void;
  reject(error: Error): void;
  timer: ReturnType<typeof setTimeout>;
}

export class Signalling {
  private readonly socket: Socket;
  private readonly listener: Listener;
  private readonly waiting = new Map<number, Waiting>();
  private readonly opened: Promise<void>;
  private readonly pace = new Pace();
  private nextId = 1;
  private over = false;

  constructor(url: string, listener: Listener, open: OpenSocket) {
    this.listener = listener;
    this.socket = open(url, SUBPROTOCOL);
    this.opened = new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.socket.close();
        reject(new ConnectionLost("The gateway did not answer."));
      }, ANSWER_TIMEOUT_MS);
      this.socket.onopen = () => {
        clearTimeout(timer);
        resolve();
      };
      this.socket.onclose = () => {
        clearTimeout(timer);
        reject(new ConnectionLost("The connection to the gateway was lost."));
        this.finish(true);
      };
    });
    // The rejection reaches whoever awaits a request; nobody may be awaiting when the socket closes.
    this.opened.catch(() => undefined);
    this.socket.onmessage = (event) => this.receive(event.data);
  }

  async request<M extends Method>(method: M, data: Methods[M]["ask"]): Promise<Methods[M]["answer"]> {
    await this.opened;
    if (this.over) throw new ConnectionLost("The connection to the gateway was lost.");
    const id = this.nextId++;
    return new Promise<Methods[M]["answer"]>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new ConnectionLost(`The gateway did not answer "${method}".`));
      }, ANSWER_TIMEOUT_MS);
      this.waiting.set(id, { resolve: (answer) => resolve(answer as Methods[M]["answer"]), reject, timer });
      this.sendInPace(JSON.stringify({ id, method, data }));
    });
  }

  /** Closes for good, without telling the listener; every open request fails. */
  close(): void {
    this.end(LEFT);
  }

  /** Closes in order to go on over another socket: the gateway keeps the place. */
  abandon(): void {
    this.end(ABANDONED);
  }

  private end(code: number): void {
    this.finish(false);
    this.socket.close(code);
  }

  private sendInPace(text: string): void {
    const wait = this.pace.take();
    if (wait === 0) {
      this.socket.send(text);
      return;
    }
    setTimeout(() => {
      if (!this.over) this.socket.send(text);
    }, wait);
  }

  private receive(text: unknown): void {
    if (this.over || typeof text !== "string") return;
    const frame = parseFrame(text);
    if (frame === null) return;
    if ("push" in frame) this.listener.push(frame.push);
    else this.answer(frame.reply);
  }

  private answer(reply: Reply): void {
    const waiting = this.waiting.get(reply.id);
    if (waiting === undefined) return;
    this.waiting.delete(reply.id);
    clearTimeout(waiting.timer);
    if (reply.ok) waiting.resolve(reply.data ?? {});
    else waiting.reject(new Refused(reply.error?.code ?? "unknown", reply.error?.message ?? "The gateway refused."));
  }

  private finish(tell: boolean): void {
    if (this.over) return;
    this.over = true;
    for (const waiting of this.waiting.values()) {
      clearTimeout(waiting.timer);
      waiting.reject(new ConnectionLost("The connection to the gateway was lost."));
    }
    this.waiting.clear();
    if (tell) this.listener.lost();
  }
}
