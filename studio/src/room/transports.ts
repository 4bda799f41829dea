/** The two peer connections of a visit: one we offer on, for what we send, and one we answer on, for what we hear and see. */

import { JitterBuffers } from "./jitter";
import { pictureEncodings, preferCodecs } from "./pictures";
import type { CameraForm } from "./pictures";
import type { ConsumerInfo, JitterBuffer, ProducerInfo, TrackSource, TransportName } from "./protocol";
import { Repeat } from "./repeat";
import { withMusicMode, withSeparateStreams } from "./sdp";
import type { Signalling } from "./signalling";

export type LinkState = "off" | "connecting" | "up" | "down";

/** What we want to send of one source. */
export interface Outgoing {
  /** `null` keeps the source's place but sends nothing. */
  track: MediaStreamTrack | null;
  paused: boolean;
  /** Of a camera; it holds from the first offer on. In sizes unless told otherwise. */
  form?: CameraForm;
}

/** ICE recovers from short gaps by itself; after this long a restart is faster than hoping. */
const RESTART_AFTER_MS = 3000;

/** Browsers tell the loss of what they send anew about every second. */
const REPORT_MS = 3000;

const AUDIO_ENCODING: RTCRtpEncodingParameters = { maxBitrate: 256_000, priority: "high", networkPriority: "high" };

/** Shared by both directions: candidates, connection state, and the restart of a link that stays down. */
abstract class Transport {
  readonly pc: RTCPeerConnection;
  protected signalling: Signalling;
  private readonly name: TransportName;
  protected readonly changed: () => void;
  private readonly failed: (error: unknown) => void;
  private queue: Promise<void> = Promise.resolve();
  /** Candidates found before the server knows the transport; `null` once it does. */
  private early: string[] | null = [];
  private restartTimer: ReturnType<typeof setInterval> | undefined;
  private closed = false;

  constructor(
    name: TransportName,
    iceServers: RTCIceServer[],
    signalling: Signalling,
    changed: () => void,
    failed: (error: unknown) => void,
  ) {
    this.name = name;
    this.signalling = signalling;
    this.changed = changed;
    this.failed = failed;
    this.pc = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" });
    this.pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) this.tellCandidate(candidate.candidate);
    };
    this.pc.onconnectionstatechange = () => this.watch();
  }

  get state(): LinkState {
    switch (this.pc.connectionState) {
      case "connected":
        return "up";
      case "connecting":
        return "connecting";
      case "new":
        return this.early === null ? "connecting" : "off";
      case "disconnected":
      case "failed":
        return "down";
      case "closed":
        return "off";
    }
  }

  close(): void {
    this.closed = true;
    clearInterval(this.restartTimer);
    this.pc.onicecandidate = null;
    this.pc.onconnectionstatechange = null;
    this.pc.ontrack = null;
    this.pc.close();
  }

  protected abstract restart(): Promise<void>;

  /** Runs negotiations one after the other: a peer connection can hold only one at a time. */
  protected enqueue(job: () => Promise<void>): void {
    this.queue = this.queue.then(job).catch((error: unknown) => {
      if (!this.closed) this.failed(error);
    });
  }

  protected known(): void {
    const early = this.early ?? [];
    this.early = null;
    for (const candidate of early) this.tellCandidate(candidate);
  }

  private tellCandidate(candidate: string): void {
    if (this.early !== null) {
      this.early.push(candidate);
      return;
    }
    // One lost candidate is no failure: ICE has others, and a link that stays down is restarted.
    this.signalling.request("candidate", { transport: this.name, candidate }).catch(() => undefined);
  }

  private watch(): void {
    this.changed();
    const down = this.pc.connectionState === "disconnected" || this.pc.connectionState === "failed";
    if (down && this.restartTimer === undefined) {
      this.restartTimer = setInterval(() => this.enqueue(() => this.restart()), RESTART_AFTER_MS);
    } else if (this.pc.connectionState === "connected") {
      clearInterval(this.restartTimer);
      this.restartTimer = undefined;
    }
  }
}

interface Line {
  transceiver: RTCRtpTransceiver;
  producer: string | null;
  /** What the server believes. */
  paused: boolean;
}

export class SendTransport extends Transport {
  private readonly lines = new Map<TrackSource, Line>();
  private readonly repeat = new Repeat();
  /** Whether sound goes twice now. */
  private repeats = false;
  /** Packets of sound sent, and sent again, until the last look. */
  private packets = { sent: 0, again: 0 };
  private readonly reports = setInterval(() => void this.report(), REPORT_MS);

  override close(): void {
    clearInterval(this.reports);
    super.close();
  }

  /** Makes what is sent equal to what is wanted: new sources are offered together, known ones change without an offer. */
  reconcile(wanted: ReadonlyMap<TrackSource, Outgoing>): void {
    this.enqueue(async () => {
      await this.offerNew(wanted);
      for (const [source, line] of this.lines) {
        const { track, paused } = wanted.get(source) ?? { track: null, paused: true };
        if (line.transceiver.sender.track !== track) await line.transceiver.sender.replaceTrack(track);
        if (line.producer === null) {
          const mid = line.transceiver.mid;
          if (mid === null) continue;
          line.producer = (await this.signalling.request("produce", { mid, source })).producer_id;
        }
        const pause = paused || track === null;
        if (pause !== line.paused) {
          await this.signalling.request(pause ? "pause" : "resume", { producer_id: line.producer });
          line.paused = pause;
        }
      }
    });
  }

  /** Goes on over another socket; what the old one did not carry to the end is done again. */
  carryOn(signalling: Signalling, producers: readonly ProducerInfo[]): void {
    this.signalling = signalling;
    this.enqueue(async () => {
      if (this.pc.signalingState !== "stable") await this.negotiate();
    });
    for (const [source, line] of this.lines) {
      const known = producers.find((producer) => producer.source === source);
      line.producer = known?.id ?? null;
      line.paused = known?.paused ?? false;
    }
  }

  /** Restarts ICE now: the gateway says that it hears nothing. */
  recover(): void {
    this.enqueue(() => this.restart());
  }

  protected override restart(): Promise<void> {
    return this.negotiate({ iceRestart: true });
  }

  private async offerNew(wanted: ReadonlyMap<TrackSource, Outgoing>): Promise<void> {
    let added = false;
    for (const [source, { track, form = "sizes" }] of wanted) {
      if (track === null || this.lines.has(source)) continue;
      const transceiver = this.pc.addTransceiver(track, {
        direction: "sendonly",
        streams: [new MediaStream()],
        sendEncodings: track.kind === "audio" ? [AUDIO_ENCODING] : pictureEncodings(source, track, form),
      });
      if (track.kind === "video") preferCodecs(transceiver, form);
      else preferRepeats(transceiver, this.repeats);
      this.lines.set(source, { transceiver, producer: null, paused: false });
      added = true;
    }
    if (added) await this.negotiate();
  }

  /** Looks how much of the sound is lost on its way, and has it go twice or once as that asks for. */
  private async report(): Promise<void> {
    const audio = this.lines.get("microphone");
    if (this.state !== "up" || audio === undefined) return;
    let missing: number | undefined;
    let roundTrip: number | undefined;
    let packets = { sent: 0, again: 0 };
    for (const report of (await this.pc.getStats()).values()) {
      if (report.type === "remote-inbound-rtp" && report.kind === "audio") missing = report.fractionLost;
      else if (report.type === "candidate-pair" && report.nominated) roundTrip = report.currentRoundTripTime;
      else if (report.type === "outbound-rtp" && report.kind === "audio") {
        packets = { sent: report.packetsSent ?? 0, again: report.retransmittedPacketsSent ?? 0 };
      }
    }
    // What was lost and asked for again is not missing any more, but comes too late for a short jitter buffer.
    const again = Math.max(0, packets.again - this.packets.again);
    const sent = Math.max(1, packets.sent - this.packets.sent);
    this.packets = packets;
    if (missing === undefined) return;
    const lost = Math.min(1, Math.max(missing, again / sent));
    this.repeat.report(Date.now(), lost, roundTrip === undefined ? undefined : roundTrip * 1000);
    if (this.repeat.isOn === this.repeats) return;
    this.repeats = this.repeat.isOn;
    this.enqueue(async () => {
      if (preferRepeats(audio.transceiver, this.repeats)) await this.negotiate();
    });
  }

  private async negotiate(options: RTCOfferOptions = {}): Promise<void> {
    const offer = await this.pc.createOffer(options);
    const sdp = withMusicMode(offer.sdp ?? "");
    await this.pc.setLocalDescription({ type: "offer", sdp });
    const answer = await this.signalling.request("connect", { transport: "send", sdp });
    await this.pc.setRemoteDescription({ type: "answer", sdp: withMusicMode(answer.sdp ?? "") });
    this.known();
  }
}

export class RecvTransport extends Transport {
  private readonly jitterBuffers = new JitterBuffers();
  private readonly consumers = new Map<string, ConsumerInfo>();
  private readonly streams = new Map<string, MediaStream>();

  /** What a consumer carries, once it has been offered. The stream holds this one track and nothing else. */
  stream(consumer: string): MediaStream | null {
    return this.streams.get(consumer) ?? null;
  }

  /** How long the sound of each consumer waited in its jitter buffer since the last call. */
  heldBack(): Promise<JitterBuffer[]> {
    return this.jitterBuffers.measure(this.pc, this.consumers.values());
  }

  add(consumer: ConsumerInfo): void {
    this.consumers.set(consumer.id, consumer);
    this.bind();
  }

  remove(consumer: string): void {
    this.consumers.delete(consumer);
    this.streams.delete(consumer);
  }

  /** Goes on over another socket with what the gateway still sends. */
  carryOn(signalling: Signalling, consumers: readonly ConsumerInfo[]): void {
    this.signalling = signalling;
    const kept = new Set(consumers.map((consumer) => consumer.id));
    for (const id of [...this.consumers.keys()]) if (!kept.has(id)) this.remove(id);
    for (const consumer of consumers) this.add(consumer);
  }

  answer(offerId: number, offer: string): void {
    this.enqueue(async () => {
      await this.pc.setRemoteDescription({ type: "offer", sdp: withSeparateStreams(offer) });
      const answer = await this.pc.createAnswer();
      const sdp = withMusicMode(answer.sdp ?? "");
      await this.pc.setLocalDescription({ type: "answer", sdp });
      this.bind();
      await this.signalling.request("connect", { transport: "recv", offer_id: offerId, sdp });
      this.known();
    });
  }

  protected override async restart(): Promise<void> {
    await this.signalling.request("restart_ice", {});
  }

  /** Joins consumers and m-lines; either may come first, and an m-line may carry another consumer later. */
  private bind(): void {
    for (const consumer of this.consumers.values()) {
      if (this.streams.has(consumer.id)) continue;
      const transceiver = this.pc.getTransceivers().find((each) => each.mid === consumer.mid);
      if (transceiver === undefined || transceiver.currentDirection === null) continue;
      hearEarly(transceiver.receiver);
      this.streams.set(consumer.id, new MediaStream([transceiver.receiver.track]));
    }
    this.changed();
  }
}

/** Asks for the shortest jitter buffer the network allows; browsers without the hint choose by themselves. */
function hearEarly(receiver: RTCRtpReceiver): void {
  if (receiver.track.kind === "audio" && "jitterBufferTarget" in receiver) {
    (receiver as RTCRtpReceiver & { jitterBufferTarget: number | null }).jitterBufferTarget = 0;
  }
}

/** Puts redundant sound before plain, or behind it. `false` where the browser has none, or lets nobody choose. */
function preferRepeats(transceiver: RTCRtpTransceiver, repeats: boolean): boolean {
  const codecs = RTCRtpReceiver.getCapabilities("audio")?.codecs ?? [];
  const isRed = (codec: RTCRtpCodec): boolean => codec.mimeType.toLowerCase() === "audio/red";
  if (!codecs.some(isRed) || !("setCodecPreferences" in transceiver)) return false;
  const rank = (codec: RTCRtpCodec): number => (isRed(codec) === repeats ? 0 : 1);
  transceiver.setCodecPreferences([...codecs].sort((a, b) => rank(a) - rank(b)));
  return true;
}
