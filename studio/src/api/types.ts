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
  primary: boolean;
  /** Whether it is sent to its second server. */
  on_backup: boolean;
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
  programme: {
    width: number;
    height: number;
    fps: number;
    video_kbps: number;
    audio_kbps: number;
    /** Whether one picture that is the whole programme may go out as it comes. */
    passthrough: "off" | "auto";
  };
  record: boolean;
  /** Where anybody may watch it, on this gateway; `null` unless it was asked for. */
  hls_url: string | null;
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
    /** Whether the picture goes out as it comes, now. */
    passed_through: boolean;
    fps: number;
    bitrate_kbps: number;
    /** What the encoder is asked for now; lower than the programme's while destinations take less. */
    target_video_kbps: number;
    target_reason: string | null;
    dropped_frames: number;
    musicians: number;
    mixer_restarts: number;
    recorded_bytes: number;
  };
  mix: {
    master_gain_db: number;
    normalise: boolean;
    /** Whom the others are aligned to. */
    leader: { participant: string; name: string; present: boolean } | null;
    /** Who keeps the beat, as far as levels tell, while nobody leads. */
    proposed_leader: string | null;
    /** In the order of joining. */
    musicians: Musician[];
  };
  layout: Layout;
  dressing: Dressing & { looks: Look[] };
}

/** What stands over and under the pictures. */
export interface Dressing {
  captions: boolean;
  title: string | null;
  logo: boolean;
  /** `#rrggbb` */
  background: string;
  /** Whether a picture is in front of that. */
  backdrop: boolean;
}

/** How a musician's camera is retouched. */
export interface Look {
  participant: string;
  /** Shares cut off: left, top, right, bottom. */
  crop: [number, number, number, number];
  mirror: boolean;
  /** -1 (black) to 1 (white). */
  brightness: number;
  monochrome: boolean;
}

export type LookChange = Partial<Omit<Look, "participant">>;

/** One musician's sound in the programme. */
export interface Musician {
  participant: string;
  name: string;
  /** -60, which is silence, to 12. */
  gain_db: number;
  muted: boolean;
  solo: boolean;
  /** -1 (left) to 1 (right). */
  pan: number;
  /** By hand, -200 to 2000. */
  delay_ms: number;
  /** `null` while nobody leads. */
  alignment: Alignment | null;
  /** Mute and everybody's solo considered. */
  heard: boolean;
}

/** How a musician is aligned to the leader. */
export interface Alignment {
  standing: "leader" | "aligned" | "unmeasured" | "out_of_reach";
  /** Beside the leader, if it were not aligned. */
  late_ms: number | null;
  added_ms: number;
}

export type MusicianChange = Partial<Pick<Musician, "gain_db" | "muted" | "solo" | "pan" | "delay_ms">>;

export type LayoutKind = "grid" | "speaker" | "spotlight" | "picture_in_picture" | "custom" | "canvas" | "canvas_and_tiles";
export type Corner = "top_left" | "top_right" | "bottom_left" | "bottom_right";

/** A musician's camera or screen. */
export interface Picture {
  participant: string;
  screen: boolean;
}

/** As shares of the programme's width and height. */
export interface Tile extends Picture {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Layout {
  kind: LayoutKind;
  large: Picture | null;
  small: Picture | null;
  corner: Corner;
  tiles: Tile[];
  /** What can be shown, and where it stands in programme pixels. */
  pictures: (Picture & { name: string; rect: Rect | null })[];
  /** The room's canvas, while there is one. */
  canvas: { painter: string; rect: Rect | null } | null;
}

/** In programme pixels. */
export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Replaces the layout as a whole. */
export type LayoutChange = Omit<Layout, "pictures" | "canvas">;

export interface StreamChange {
  mix?: {
    master_gain_db?: number;
    normalise?: boolean;
    /** An empty one ends the alignment. */
    leader?: string;
    musicians?: (MusicianChange & { participant: string })[];
  };
  layout?: LayoutChange;
  dressing?: {
    captions?: boolean;
    /** An empty one takes it away. */
    title?: string;
    /** Base64 of a PNG or a JPEG; an empty one takes it away. */
    logo?: string;
    background?: string;
    /** Like the logo. */
    backdrop?: string;
    looks?: (LookChange & { participant: string })[];
  };
}

/** How loud everything is, ten times a second; what is silent is `null` or not there. */
export interface Meters {
  momentary_lufs: number | null;
  short_term_lufs: number | null;
  integrated_lufs: number | null;
  true_peak_dbtp: number | null;
  normalisation_db: number;
  musicians: { participant: string; peak_dbfs: number; rms_dbfs: number }[];
}

export interface Destination {
  id: string;
  name: string;
  platform: string;
  url: string;
  key_hint: string;
  /** Whether the bitrate follows what this one takes. */
  primary: boolean;
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
  /** Whose own track it is; `null` for the programme. */
  musician: string | null;
  media: "audio" | "video" | null;
  created_at: string | number;
  ended_at: string | number | null;
  duration_ms?: number | null;
  size_bytes: number | null;
  failure: string | null;
  /** A small picture of it, once there is one. */
  poster_url: string | null;
  file_url: string;
}

/** A programme to choose by name. */
export interface Tier {
  name: string;
  width: number;
  height: number;
  fps: number;
  video_kbps: number;
}

export interface NewStream {
  room: string;
  title: string;
  destinations: string[];
  record: boolean;
  /** Whether every musician's own tracks are recorded beside the programme. */
  stems: boolean;
  /** Whether anybody may watch it over HLS. */
  hls: boolean;
  /** Without a tier it is what all destinations take. */
  programme?: { tier?: string; passthrough?: "auto" };
}

export interface NewDestination {
  name: string;
  platform: string;
  url: string;
  key: string;
  /** Takes over when the first server is lost. */
  backup_url?: string;
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
