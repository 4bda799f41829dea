/** The words of the signalling protocol `jamcast.v1`, as they travel over the WebSocket `/media-relay`. */

export const SUBPROTOCOL = "jamcast.v1";

export type RoomRole = "viewer" | "musician" | "host" | "admin";
export type MediaKind = "audio" | "video";
export type TrackSource = "microphone" | "camera" | "screen";
export type TransportName = "send" | "recv";

export interface ParticipantInfo {
  id: string;
  name: string;
  role: RoomRole;
  /** A host has silenced its sound; its own pause is another matter. */
  audio_muted: boolean;
  /** A host has switched its pictures off. */
  video_muted: boolean;
  /** Only hosts see and hear it, and the programme does not. */
  isolated: boolean;
}

export interface ProducerInfo {
  id: string;
  participant: string;
  kind: MediaKind;
  /** The programme is the room's own broadcast, of no participant; only hosts hear of it. */
  source: TrackSource | "programme";
  paused: boolean;
}

export interface ConsumerInfo {
  id: string;
  producer: string;
  kind: MediaKind;
  /** The m-line of the recv transport that carries it. */
  mid: string;
}

export interface Joined {
  you: ParticipantInfo;
  room: string;
  /** Only hosts may come in. */
  locked: boolean;
  /** Whom to show large. */
  spotlight: string | null;
  ice_servers: RTCIceServer[];
  heartbeat_ms: number;
  /** With this the next socket goes on where this one breaks. */
  resume_token: string;
  resume_within_ms: number;
  participants: ParticipantInfo[];
  producers: ProducerInfo[];
  /** Only for who came back by a resume token. */
  kept?: Kept;
}

/** What the gateway kept while our socket was broken. */
export interface Kept {
  send: boolean;
  recv: boolean;
  /** Our own. */
  producers: ProducerInfo[];
  consumers: ConsumerInfo[];
}

export interface Level {
  producer_id: string;
  /** dBov, -127 to 0. */
  level: number;
}

/** How well two people can play together: up to 43 ms, up to 68 ms, more. */
export type Grade = "green" | "yellow" | "red";

/** How late one participant hears another, without their sound cards. */
export interface Path {
  from: string;
  to: string;
  delay_ms: number;
  /** What of it the receiver's jitter buffer holds back; `null` where the receiver does not say, and then it is not in `delay_ms`. */
  buffer_ms: number | null;
  grade: Grade;
}

/** What the jitter buffer behind a consumer of sound holds back. */
export interface JitterBuffer {
  consumer_id: string;
  delay_ms: number;
}

type Target = { producer_id: string } | { consumer_id: string };

/** Every request: what is asked, and what is answered. */
export interface Methods {
  join: { ask: { token: string; resume_token?: string }; answer: Joined };
  connect: {
    ask: { transport: "send"; sdp: string } | { transport: "recv"; offer_id: number; sdp: string };
    answer: { sdp?: string };
  };
  candidate: { ask: { transport: TransportName; candidate: string }; answer: object };
  restart_ice: { ask: object; answer: object };
  produce: { ask: { mid: string; source: TrackSource }; answer: { producer_id: string } };
  consume: { ask: { producer_id: string }; answer: { consumer: ConsumerInfo } };
  pause: { ask: Target; answer: object };
  resume: { ask: Target; answer: object };
  close: { ask: Target; answer: object };
  priority: { ask: { consumer_id: string; priority: number }; answer: object };
  mute: { ask: { participant_id: string; kind: MediaKind; muted: boolean }; answer: object };
  isolate: { ask: { participant_id: string; isolated: boolean }; answer: object };
  spotlight: { ask: { participant_id: string | null }; answer: object };
  lock: { ask: { locked: boolean }; answer: object };
  kick: { ask: { participant_id: string }; answer: object };
  ban: { ask: { participant_id: string }; answer: object };
  transfer_host: { ask: { participant_id: string }; answer: object };
  set_tile: { ask: { consumer_id: string; width: number; height: number }; answer: object };
  stats: { ask: { jitter_buffers: JitterBuffer[] }; answer: object };
  leave: { ask: object; answer: object };
  ping: { ask: object; answer: object };
}

export type Method = keyof Methods;

/** Everything the server says unasked. */
export type Push =
  | { method: "participant_joined"; data: { participant: ParticipantInfo } }
  | { method: "participant_left"; data: { participant_id: string } }
  | { method: "participant_updated"; data: { participant: ParticipantInfo } }
  | { method: "room_updated"; data: { locked: boolean; spotlight: string | null } }
  | { method: "levels"; data: { levels: Level[] } }
  | { method: "delays"; data: { paths: Path[] } }
  | { method: "producer_added"; data: { producer: ProducerInfo } }
  | { method: "producer_removed"; data: { producer_id: string } }
  | { method: "producer_paused"; data: { producer_id: string } }
  | { method: "producer_resumed"; data: { producer_id: string } }
  | { method: "consumer_closed"; data: { consumer_id: string } }
  | { method: "offer"; data: { offer_id: number; sdp: string } }
  | { method: "transport_connected"; data: { transport: TransportName } }
  | { method: "transport_failed"; data: { transport: TransportName } }
  | { method: "removed"; data: { reason: string } };

export interface Reply {
  id: number;
  ok: boolean;
  data?: unknown;
  error?: { code: string; message: string };
}

/** A text frame from the server, told apart by what it carries; `null` is something this version does not know. */
export function parseFrame(text: string): { reply: Reply } | { push: Push } | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  if ("id" in value && typeof value.id === "number" && "ok" in value) return { reply: value as Reply };
  if ("method" in value && typeof value.method === "string") {
    const data = "data" in value && typeof value.data === "object" && value.data !== null ? value.data : {};
    return { push: { method: value.method, data } as Push };
  }
  return null;
}
