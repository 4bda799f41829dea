// A bad link as a UDP relay in front of the gateway: what the gateway sends is lost, delayed or squeezed on its way to the client.
//
// Kernels without netem are common in containers and small virtual machines, and this needs no privileges.
import { createSocket } from "node:dgram";

/** Nothing is lost and nothing takes time. */
export const CLEAN = { loss: 0, jitterMs: 0, bitsPerSecond: Infinity, queueMs: 0 };

/** A seeded generator (mulberry32), so that a link has the same luck in every run. */
function luck(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export class Wire {
  constructor(gatewayPort) {
    this.gatewayPort = gatewayPort;
    this.is = CLEAN;
    this.random = luck(1);
    this.clients = new Map();
    /** When the last byte queued will have left. */
    this.freeAt = 0;
    this.sent = { packets: 0, lost: 0, overflowed: 0 };
  }

  /** Opens it and gives its port. */
  async open() {
    this.front = createSocket("udp4");
    this.front.on("message", (datagram, from) => this.up(datagram, from));
    await new Promise((done) => this.front.bind(0, "127.0.0.1", done));
    return this.front.address().port;
  }

  close() {
    this.front?.close();
    this.front = undefined;
    for (const back of this.clients.values()) back.close();
    this.clients.clear();
  }

  up(datagram, from) {
    const key = `${from.address}:${from.port}`;
    let back = this.clients.get(key);
    if (back === undefined) {
      back = createSocket("udp4");
      back.on("message", (answer) => this.down(answer, from));
      this.clients.set(key, back);
    }
    back.send(datagram, this.gatewayPort, "127.0.0.1");
  }

  down(datagram, to) {
    this.sent.packets += 1;
    const { loss, jitterMs, bitsPerSecond, queueMs } = this.is;
    if (this.random() < loss) {
      this.sent.lost += 1;
      return;
    }
    const now = performance.now();
    const begins = Math.max(now, this.freeAt);
    if (begins - now > queueMs && bitsPerSecond !== Infinity) {
      this.sent.overflowed += 1;
      return;
    }
    // 28 bytes of IP and UDP headers take their time too.
    this.freeAt = begins + ((datagram.length + 28) * 8000) / bitsPerSecond;
    const due = this.freeAt + this.random() * jitterMs;
    const deliver = () => this.front?.send(datagram, to.port, to.address);
    if (due - now < 1) deliver();
    else setTimeout(deliver, due - now);
  }
}
