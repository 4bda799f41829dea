/** What the gateway of `look.mjs` answers, in the API's own types: a fixture that lags behind them does not compile. */

import type { Destination, Meters, Musician, Platform, Recording, RoomToken, StreamSnapshot, Tier } from "../src/api/types";
import type { Joined, ParticipantInfo, Path, ProducerInfo } from "../src/room/protocol";

/** Somebody in the room, and how the page fakes them: a hue to be seen by and a note to be heard by. */
export interface Person extends ParticipantInfo {
  hue: number;
  note: number;
  sends: ("microphone" | "camera" | "screen")[];
  paused?: boolean;
}

const told = { role: "musician", audio_muted: false, video_muted: false, isolated: false } as const;

const band: Person[] = [
  { id: "par_0", name: "Ada", ...told, hue: 18, note: 330, sends: ["microphone", "camera"] },
  { id: "par_1", name: "Miles", ...told, hue: 205, note: 440, sends: ["microphone", "camera"], paused: true },
  { id: "par_2", name: "Nina Simone-Okonkwo", ...told, hue: 130, note: 550, sends: ["microphone", "camera"] },
];

/** The same people in a room where a host has decided much, with somebody who only watches. */
const decidedBand: Person[] = [
  { id: "par_0", name: "Ada", ...told, hue: 18, note: 330, sends: ["microphone", "camera", "screen"] },
  { id: "par_1", name: "Miles", ...told, audio_muted: true, hue: 205, note: 440, sends: ["microphone", "camera"] },
  { id: "par_2", name: "Nina Simone-Okonkwo", ...told, isolated: true, hue: 130, note: 550, sends: ["microphone", "camera"] },
  { id: "par_3", name: "Vera", ...told, role: "viewer", hue: 60, note: 660, sends: [] },
];

export interface Room {
  joined: Joined;
  people: Person[];
  paths: Path[];
}

function room(people: Person[], you: Partial<ParticipantInfo>, state: Partial<Joined> = {}): Room {
  const everybody = ["par_me", ...people.map(({ id }) => id)];
  const heard = everybody.filter((id) => people.find((each) => each.id === id)?.role !== "viewer");
  const paths = heard.flatMap((from, i) =>
    everybody
      .filter((to) => to !== from)
      .map((to, j): Path => {
        const delay_ms = 14 + i * 21 + j * 9;
        const grade = delay_ms <= 43 ? "green" : delay_ms <= 68 ? "yellow" : "red";
        return { from, to, delay_ms, buffer_ms: j === 0 ? null : 11, grade };
      }),
  );
  const producers = people.flatMap(({ id, sends, paused = false }): ProducerInfo[] =>
    sends.map((source) => {
      const kind = source === "microphone" ? "audio" : "video";
      return { id: `${id}:${source}`, participant: id, kind, source, paused: paused && kind === "audio" };
    }),
  );
  return {
    joined: {
      you: { id: "par_me", name: "Ella", ...told, role: "host", ...you },
      room: "friday-jam",
      locked: false,
      spotlight: null,
      ice_servers: [],
      heartbeat_ms: 15_000,
      resume_token: "r",
      resume_within_ms: 30_000,
      participants: people.map(({ id, name, role, audio_muted, video_muted, isolated }) => ({ id, name, role, audio_muted, video_muted, isolated })),
      producers,
      ...state,
    },
    people,
    paths,
  };
}

export const rooms = {
  host: room(band, {}),
  decisions: room(decidedBand, {}, { locked: true, spotlight: "par_0" }),
  decided: room(band, { role: "musician", audio_muted: true, isolated: true }),
  viewer: room(band, { role: "viewer" }),
};

export const destinations: Destination[] = [
  { id: "dst_1", name: "X.com", platform: "x", url: "rtmps://ca.pscp.tv:443/x", key_hint: "••••7k", primary: true, room: null, may_change: false },
  { id: "dst_2", name: "YouTube, the band's channel", platform: "youtube", url: "rtmps://a.rtmps.youtube.com/live2", key_hint: "••••q2", primary: true, room: "friday-jam", may_change: true },
  { id: "dst_3", name: "Twitch", platform: "twitch", url: "rtmps://ingest.global-contribute.live-video.net/app", key_hint: "••••0x", primary: false, room: "friday-jam", may_change: true },
];

export const platforms: Platform[] = ["X.com", "YouTube", "Twitch", "Facebook", "Kick", "Custom"].map((title) => ({
  name: title.toLowerCase().replace(".com", ""),
  title,
  url: title === "X.com" ? "rtmps://ca.pscp.tv:443/x" : null,
  servers:
    title === "X.com"
      ? [
          { label: "US West, California", url: "rtmps://ca.pscp.tv:443/x" },
          { label: "EU Central, Germany", url: "rtmps://de.pscp.tv:443/x" },
        ]
      : [],
  key_page: title === "Custom" ? null : "https://x.com/i/live-studio",
}));

export const tiers: Tier[] = [
  { name: "1080p60", width: 1920, height: 1080, fps: 60, video_kbps: 6000 },
  { name: "720p30", width: 1280, height: 720, fps: 30, video_kbps: 2500 },
  { name: "480p30", width: 854, height: 480, fps: 30, video_kbps: 1200 },
];

const recording = (id: string, differs: Partial<Recording>): Recording => ({
  id,
  stream: "str_0",
  room: "friday-jam",
  title: "Thursday rehearsal",
  part: 1,
  musician: null,
  media: null,
  created_at: "2026-11-19T20:05:00Z",
  ended_at: "2026-11-19T21:00:12Z",
  duration_ms: 3_312_000,
  size_bytes: 1_034_000_000,
  failure: null,
  poster_url: `/api/v1/recordings/${id}/thumbnails/1`,
  file_url: `/api/v1/recordings/${id}/file`,
  ...differs,
});

const stem = { poster_url: null, size_bytes: 66_200_000 };

export const recordings: Recording[] = [
  recording("rec_5", { stream: "str_1", title: "Friday night session", ended_at: null, duration_ms: null, size_bytes: 251_000_000, poster_url: null }),
  recording("rec_1", {}),
  recording("rec_2", { ...stem, musician: "Ada", media: "audio" }),
  recording("rec_3", { ...stem, musician: "Nina Simone-Okonkwo", media: "video" }),
  recording("rec_4", { part: 2, duration_ms: 41_000, size_bytes: 12_800_000, failure: "The disk was full. Make room, then record again." }),
];

export const invitation: RoomToken = { token: "t", role: "musician", expires_at: "2026-11-21T00:00:00Z", studio_url: "https://jam.example/#token=eyJhbGciOiJIUzI1NiJ9" };

const strip = (participant: string, name: string, differs: Partial<Musician>): Musician => ({
  participant,
  name,
  gain_db: 0,
  muted: false,
  solo: false,
  pan: 0,
  delay_ms: 0,
  alignment: null,
  heard: true,
  ...differs,
});

export const live: StreamSnapshot = {
  id: "str_1",
  room: "friday-jam",
  owner: "ella",
  title: "Friday night session",
  programme: { width: 1280, height: 720, fps: 30, video_kbps: 2500, audio_kbps: 160, passthrough: "auto" },
  record: true,
  hls_url: "/hls/str_1/9f3c/index.m3u8",
  state: "live",
  reason: null,
  created_at_ms: 0,
  started_at_ms: 0,
  ended_at_ms: null,
  destinations: destinations.map(({ id, name, platform, url, primary }, i) => ({
    id,
    name,
    platform,
    url,
    primary,
    on_backup: i === 0,
    state: (["live", "backoff", "publishing"] as const)[i] ?? "live",
    hint: i === 1 ? "The server closed the connection. Check that the stream key is the one on the platform's page." : null,
    retry_in_ms: i === 1 ? 4000 : null,
    first_video_ms: i === 0 ? 1200 : null,
    reconnects: i === 1 ? 3 : 0,
    bytes_sent: 241_000_000,
    frames_sent: 22_000,
    dropped_frames: i === 1 ? 120 : 0,
    queue_ms: 0,
  })),
  stats: {
    duration_ms: 754_000,
    first_video_ms: 900,
    video_frames: 22_620,
    audio_frames: 35_000,
    passed_through: false,
    fps: 30,
    bitrate_kbps: 1671,
    target_video_kbps: 1500,
    target_reason: "X.com takes no more",
    dropped_frames: 0,
    musicians: 4,
    mixer_restarts: 0,
    recorded_bytes: 251_000_000,
  },
  mix: {
    master_gain_db: -1.5,
    normalise: true,
    leader: { participant: "par_me", name: "Ella", present: true },
    proposed_leader: "par_0",
    musicians: [
      strip("par_me", "Ella", { alignment: { standing: "leader", late_ms: null, added_ms: 85 } }),
      strip("par_0", "Ada", { gain_db: -4.5, pan: -0.4, delay_ms: 12, alignment: { standing: "aligned", late_ms: 85, added_ms: 0 } }),
      strip("par_1", "Miles", { gain_db: 2, muted: true, heard: false, alignment: { standing: "unmeasured", late_ms: null, added_ms: 0 } }),
      strip("par_2", "Nina Simone-Okonkwo", { gain_db: -60, alignment: { standing: "out_of_reach", late_ms: 640, added_ms: 0 } }),
    ],
  },
  layout: {
    kind: "custom",
    large: null,
    small: null,
    corner: "bottom_right",
    tiles: [
      { participant: "par_me", screen: false, x: 0.02, y: 0.04, width: 0.5, height: 0.5 },
      { participant: "par_0", screen: false, x: 0.54, y: 0.04, width: 0.44, height: 0.92 },
      { participant: "par_2", screen: false, x: 0.02, y: 0.58, width: 0.24, height: 0.38 },
    ],
    pictures: [
      { participant: "par_me", screen: false, name: "Ella", rect: { x: 26, y: 28, width: 640, height: 360 } },
      { participant: "par_0", screen: false, name: "Ada", rect: { x: 692, y: 28, width: 562, height: 664 } },
      { participant: "par_1", screen: false, name: "Miles", rect: null },
      { participant: "par_2", screen: false, name: "Nina Simone-Okonkwo", rect: { x: 26, y: 418, width: 308, height: 274 } },
    ],
    canvas: { painter: "Ella", rect: { x: 346, y: 418, width: 320, height: 274 } },
  },
  dressing: {
    captions: true,
    title: "Friday night session",
    logo: true,
    background: "#1d2b45",
    backdrop: false,
    looks: ["par_me", "par_0", "par_1", "par_2"].map((participant, i) => ({ participant, crop: [0, 0, 0, 0], mirror: i === 0, brightness: 0.1, monochrome: false })),
  },
};

export const meters: Meters = {
  momentary_lufs: -15.2,
  short_term_lufs: -16.8,
  integrated_lufs: -15.9,
  true_peak_dbtp: -1.2,
  normalisation_db: 2.4,
  musicians: ["par_me", "par_0", "par_2"].map((participant, i) => ({ participant, peak_dbfs: -6 - i * 7, rms_dbfs: -16 - i * 8 })),
};
