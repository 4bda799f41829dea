// A bad link as a UDP relay in front of the gateway: what the gateway sends is lost, delayed or squeezed on its way to the client, and
// what the client sends is lost or takes its time too.
//
// Kernels without netem are common in containers and small virtual machines, and this needs no privileges.
import { createSocket } from "node:dgram";

/** Nothing is lost and nothing takes time. `delayMs` is that of each way, `upLoss` of the way up; the rest is of the way down. */
export const CLEAN = { loss: 0, delayMs: 0, jitterMs: 0, bitsPerSecond: Infinity, queueMs: 0, upLoss: 0 };

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
    if (this.random() < this.is.upLoss) return;
    const deliver = () => this.clients.has(key) && back.send(datagram, this.gatewayPort, "127.0.0.1");
    later(this.is.delayMs, deliver);
  }

  down(datagram, to) {
    this.sent.packets += 1;
    const { loss, delayMs, jitterMs, bitsPerSecond, queueMs } = this.is;
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
    const due = this.freeAt + delayMs + this.random() * jitterMs;
    later(due - now, () => this.front?.send(datagram, to.port, to.address));
  }
}

function later(ms, job) {
  if (ms < 1) job();
  else setTimeout(job, ms);
}

/** What comes from the gateway to this page comes through the wire: neither end learns the other's own address. */
export async function behind(wire, page) {
  await page.exposeFunction("wirePort", async (port) => {
    wire.gatewayPort = port;
    wire.port ??= await wire.open();
    return wire.port;
  });
  await page.addInitScript(() => {
    const candidates = /a=candidate:.*\r\n/g;
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (text) {
      const message = JSON.parse(text);
      if (message.method === "candidate") return;
      if (message.data?.sdp) message.data.sdp = message.data.sdp.replaceAll(candidates, "");
      send.call(this, JSON.stringify(message));
    };
    const onLoopback = /^(a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 )(\d+)/;
    const native = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = async function (description) {
      const port = description.sdp.match(candidates)?.map((line) => line.match(onLoopback)?.[2]).find(Boolean);
      if (port === undefined) throw new Error("the gateway has no candidate on loopback");
      const through = await window.wirePort(Number(port));
      const moved = (line) => (onLoopback.test(line) ? line.replace(onLoopback, `$1${through}`) : "");
      return native.call(this, { ...description, sdp: description.sdp.replaceAll(candidates, moved) });
    };
  });
}
