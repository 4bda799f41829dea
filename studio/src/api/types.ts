/** The shapes of `/api/v1` that the studio uses. */

import type { RoomRole } from "../room";

export type StreamState = "created" | "starting" | "live" | "stopping" | "ended" | "failed";

export type DestinationState =
  | "connecting"
  | "handshaking"
  | "publishing"
  | "live"
  | "stalled"
  | "backoff"
  | "rejected"
  | "stopped";

export interface DestinationSnapshot {
  id: string;
  name: string;
  platform: string;
  url: string;
  state: DestinationState;
  hint: string | null;
  retry_in_ms: number | null;
  first_video_ms: number | null;
  reconnects: number;
  bytes_sent: number;
  frames_sent: number;
  dropped_frames: number;
  queue_ms: number;
}

export interface StreamSnapshot {
  id: string;
  room: string;
  owner: string;
  title: string;
  programme: { width: number; height: number; fps: number; video_kbps: number; audio_kbps: number };
  record: boolean;
  state: StreamState;
  reason: string | null;
  created_at_ms: number;
  started_at_ms: number | null;
  ended_at_ms: number | null;
  destinations: DestinationSnapshot[];
  stats: {
    duration_ms: number;
    first_video_ms: number | null;
    video_frames: number;
    audio_frames: number;
    fps: number;
    bitrate_kbps: number;
    dropped_frames: number;
    musicians: number;
    mixer_restarts: number;
    recorded_bytes: number;
  };
}

export interface Destination {
  id: string;
  name: string;
  platform: string;
  url: string;
  key_hint: string;
  /** The room it belongs to; `null` if all rooms of the account may send there. */
  room: string | null;
  /** Whether its key can be replaced and it can be removed from here. */
  may_change: boolean;
}

export interface Platform {
  /** The name to give in a destination. */
  name: string;
  /** The name people know. */
  title: string;
  /** The ingest URL to begin with; `null` when the person has to bring one. */
  url: string | null;
  /** Every known ingest, by region. */
  servers: { label: string; url: string }[];
  /** Where people find their stream key. */
  key_page: string | null;
}

export interface Recording {
  id: string;
  stream: string;
  room: string;
  title: string;
  part: number;
  created_at: string | number;
  ended_at: string | number | null;
  duration_ms?: number | null;
  size_bytes: number | null;
  failure: string | null;
  file_url: string;
}

export interface NewStream {
  room: string;
  title: string;
  destinations: string[];
  record: boolean;
}

export interface NewDestination {
  name: string;
  platform: string;
  url: string;
  key: string;
}

export interface NewToken {
  name: string;
  role: RoomRole;
}

export interface RoomToken {
  token: string;
  role: RoomRole;
  expires_at: string | number;
  studio_url: string;
}

/** A running stream can be watched; a finished one is history. */
export function isRunning(state: StreamState): boolean {
  return state === "starting" || state === "live" || state === "stopping";
}
