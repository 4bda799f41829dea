/** How long sound waits in our jitter buffers: nobody else can know, and everybody's delay table needs it. */

import type { ConsumerInfo, JitterBuffer } from "./protocol";

/** What a buffer has done since it is there. */
interface Sums {
  /** Seconds that all samples together have waited. */
  waited: number;
  /** How many samples they were. */
  samples: number;
}

/** More than these the gateway does not take at once. */
const MOST = 64;
/** More than this is no jitter buffer's; the gateway's number has 16 bits. */
const LONGEST_MS = 10_000;

export class JitterBuffers {
  private before = new Map<string, Sums>();

  /** How long the sound of each consumer waited on average since the last call; of those that brought any. */
  async measure(pc: RTCPeerConnection, consumers: Iterable<ConsumerInfo>): Promise<JitterBuffer[]> {
    const tracks = new Map(pc.getTransceivers().map(({ mid, receiver }) => [receiver.track.id, mid]));
    const reports = new Map<string, Sums>();
    for (const report of (await pc.getStats()).values()) {
      const mid = report.type === "inbound-rtp" && report.kind === "audio" ? tracks.get(report.trackIdentifier) : undefined;
      if (typeof mid !== "string" || report.jitterBufferDelay === undefined) continue;
      reports.set(mid, { waited: report.jitterBufferDelay, samples: report.jitterBufferEmittedCount ?? 0 });
    }
    const now = new Map<string, Sums>();
    const measured: JitterBuffer[] = [];
    for (const { id, mid } of consumers) {
      const sums = reports.get(mid);
      if (sums === undefined) continue;
      now.set(id, sums);
      const before = this.before.get(id) ?? { waited: 0, samples: 0 };
      const samples = sums.samples - before.samples;
      const delay_ms = Math.round(((sums.waited - before.waited) / samples) * 1000);
      if (samples > 0 && delay_ms >= 0 && delay_ms <= LONGEST_MS) measured.push({ consumer_id: id, delay_ms });
    }
    this.before = now;
    return measured.slice(0, MOST);
  }
}
