import { describe, expect, it } from "vitest";

import { HEADER, pack } from "../src/canvas/frame";
import type { CanvasFrame } from "../src/canvas/frame";
import { CanvasRelay } from "../src/canvas/relay";
import type { Encoder, Picture, RelayState, Socket, World } from "../src/canvas/relay";

/** A world whose clock is moved by hand. */
class FakeWorld implements World {
  time = 1000;
  readonly sockets: FakeSocket[] = [];
  readonly pictures: Picture[] = [];
  readonly made: Encoder[] = [];
  /** Whether the encoder gives each frame at once. */
  quick = true;
  private timers: { at: number; then: () => void }[] = [];

  open(): Socket {
    const socket = new FakeSocket();
    this.sockets.push(socket);
    return socket;
  }

  encoder(): Promise<Encoder> {
    const encoder: Encoder = {
      encode: (picture) => {
        this.pictures.push(picture);
        if (this.quick) encoder.emit(frame(picture));
      },
      emit: () => undefined,
      fail: () => undefined,
      close: () => undefined,
    };
    this.made.push(encoder);
    return Promise.resolve(encoder);
  }

  now(): number {
    return this.time;
  }

  after(ms: number, then: () => void): () => void {
    const timer = { at: this.time + ms, then };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((each) => each !== timer);
    };
  }

  run(ms: number): void {
    const end = this.time + ms;
    for (;;) {
      const next = this.timers.filter((each) => each.at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.timers = this.timers.filter((each) => each !== next);
      this.time = Math.max(this.time, next.at);
      next.then();
    }
    this.time = end;
  }
}

class FakeSocket implements Socket {
  bufferedAmount = 0;
  readonly texts: unknown[] = [];
  frames = 0;
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;

  send(message: string | ArrayBuffer): void {
    if (typeof message === "string") this.texts.push(JSON.parse(message));
    else this.frames += 1;
  }

  close(): void {
    this.end(1000);
  }

  end(code: number): void {
    this.onclose?.({ code } as CloseEvent);
  }

  async say(message: object): Promise<void> {
    this.onmessage?.({ data: JSON.stringify(message) } as MessageEvent);
    await Promise.resolve();
    await Promise.resolve();
    await Promise.resolve();
  }
}

function frame({ key, timestampUs }: Picture): CanvasFrame {
  return { format: "vp8", key, width: 640, height: 360, timestampUs, data: new Uint8Array(100) };
}

async function opened(): Promise<{ world: FakeWorld; socket: FakeSocket; states: RelayState[]; relay: CanvasRelay }> {
  const world = new FakeWorld();
  const states: RelayState[] = [];
  const relay = new CanvasRelay(world, "secret", (state) => states.push(state));
  const socket = world.sockets[0];
  if (socket === undefined) throw new Error("no socket was opened");
  socket.onopen?.(new Event("open"));
  await socket.say({ type: "opened", formats: ["h264", "vp8"] });
  return { world, socket, states, relay };
}

describe("the frame's header", () => {
  it("is what the document says", () => {
    const data = new Uint8Array([7, 8, 9]);
    const message = pack({ format: "h264", key: true, width: 1280, height: 720, timestampUs: 0x1_0000_0002, data });
    const bytes = [...new Uint8Array(message)];
    expect(bytes.slice(0, HEADER)).toEqual([1, 1, 1, 0, 5, 0, 2, 208, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
    expect(bytes.slice(HEADER)).toEqual([7, 8, 9]);
  });
});

describe("a canvas relay", () => {
  it("shows its token first and draws nothing while nobody watches", async () => {
    const { world, socket, states } = await opened();
    expect(socket.texts).toEqual([{ type: "open", token: "secret" }]);
    await socket.say({ type: "pace", max_fps: 0, max_kbps: 0, scale: 1 });
    world.run(1000);
    expect(world.pictures).toEqual([]);
    expect(states.at(-1)).toEqual({ name: "unwatched" });
  });

  it("draws at the pace it is told and never without a credit", async () => {
    const { world, socket } = await opened();
    await socket.say({ type: "credit", frames: 6 });
    await socket.say({ type: "pace", max_fps: 20, max_kbps: 1000, scale: 0.5 });
    world.run(200);
    expect(socket.frames).toBe(5);
    world.run(1000);
    expect(socket.frames).toBe(6);
    for (let n = 0; n < 40; n += 1) {
      await socket.say({ type: "credit", frames: 1 });
      world.run(50);
    }
    expect(socket.frames).toBe(46);
    expect(world.pictures[0]?.pace.scale).toBe(0.5);
  });

  it("begins with a keyframe, gives one when asked, and one every four seconds", async () => {
    const { world, socket } = await opened();
    await socket.say({ type: "credit", frames: 1000 });
    await socket.say({ type: "pace", max_fps: 10, max_kbps: 1000, scale: 1 });
    world.run(1000);
    await socket.say({ type: "keyframe" });
    world.run(7900);
    const keys = world.pictures.flatMap((picture, n) => (picture.key ? [n] : []));
    expect(keys).toEqual([0, 11, 51]);
  });

  it("waits for a slow encoder, and for no picture that it left out", async () => {
    const { world, socket } = await opened();
    world.quick = false;
    await socket.say({ type: "credit", frames: 3 });
    await socket.say({ type: "pace", max_fps: 30, max_kbps: 1000, scale: 1 });
    world.run(500);
    expect(world.pictures.length).toBe(3);
    const last = world.pictures[2];
    if (last !== undefined) world.made[0]?.emit(frame(last));
    world.run(500);
    expect([socket.frames, world.pictures.length]).toEqual([1, 5]);
  });

  it("leaves pictures out while the browser has not sent the last ones", async () => {
    const { world, socket } = await opened();
    await socket.say({ type: "credit", frames: 100 });
    await socket.say({ type: "pace", max_fps: 30, max_kbps: 1000, scale: 1 });
    socket.bufferedAmount = 30_000;
    world.run(300);
    expect(socket.frames).toBe(0);
    socket.bufferedAmount = 0;
    world.run(300);
    expect(socket.frames).toBeGreaterThan(8);
  });

  it("comes back after a broken line and says why it was refused", async () => {
    const { world, socket, states } = await opened();
    await socket.say({ type: "credit", frames: 100 });
    await socket.say({ type: "pace", max_fps: 30, max_kbps: 1000, scale: 1 });
    socket.end(1006);
    expect(states.at(-1)).toEqual({ name: "connecting" });
    world.run(1000);
    const second = world.sockets[1];
    expect(second).toBeDefined();
    await second?.say({ type: "refused", code: "canvas_taken", message: "this room has a canvas already" });
    second?.end(1008);
    expect(states.at(-1)).toEqual({ name: "refused", message: "this room has a canvas already" });
    world.run(60_000);
    expect(world.sockets.length).toBe(2);
  });

  it("is gone when it is closed", async () => {
    const { world, states, relay } = await opened();
    relay.close();
    world.run(60_000);
    expect([states.at(-1)?.name, world.sockets.length]).toEqual(["closed", 1]);
  });
});
