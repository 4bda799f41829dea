/** The host's panel: where to, the red button, how it goes, and what was recorded. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";

import type { DestinationSnapshot, DestinationState, StreamSnapshot, Tier } from "../api/types";
import * as format from "../format";
import type { Broadcast } from "../state/broadcast";
import type { Studio } from "../state/studio";
import { CanvasSection } from "./canvas";
import { Destinations } from "./destinations";
import { Dialog } from "./dialog";
import { FieldError, Select, Switch, TextField } from "./fields";
import { Close, Warning } from "./icons";
import { LayoutPicker } from "./layout-picker";
import { Mixer } from "./mixer";
import { useElapsed } from "./on-air";
import { Preview } from "./preview";
import { ReachChange } from "./reach-change";
import { Recordings } from "./recordings";
import { WatchLink } from "./watch-link";

export function BroadcastPanel({ studio, broadcast, onClose }: { studio: Studio; broadcast: Broadcast; onClose(): void }): JSX.Element {
  return (
    <aside id="broadcast" class="panel" aria-label="Broadcast" data-testid="broadcast-panel">
      <header class="panel-head">
        <h2>Broadcast</h2>
        <button class="button icon-only ghost" type="button" aria-label="Close the broadcast panel" onClick={onClose}>
          <Close />
        </button>
      </header>
      {broadcast.running.value ? <Running broadcast={broadcast} /> : <Prepare broadcast={broadcast} />}
      {broadcast.running.value && studio.isHost && <Preview studio={studio} broadcast={broadcast} />}
      {broadcast.running.value && <LayoutPicker broadcast={broadcast} />}
      {broadcast.running.value && <Mixer broadcast={broadcast} />}
      <CanvasSection canvas={broadcast.canvas} />
      <Recordings broadcast={broadcast} />
    </aside>
  );
}

function tierChoice(tier: Tier): { id: string; label: string } {
  const { name, width, height, fps, video_kbps } = tier;
  return { id: name, label: `${name}: ${width}×${height}, ${fps} fps, ${video_kbps / 1000} Mbit/s` };
}

function Prepare({ broadcast }: { broadcast: Broadcast }): JSX.Element {
  const errors = broadcast.fieldErrors.value;
  const picked = broadcast.picked.value.size;
  const record = broadcast.record.value;
  const hls = broadcast.hls.value;
  const pointless = picked === 0 && !record && !hls;
  const reason = pointless ? "Choose a destination, or record, or open a watch link." : null;
  const last = broadcast.stream.value;
  const general = [...errors].find(([field]) => !["title"].includes(field) && !field.startsWith("destinations"));
  return (
    <>
      {last?.state === "failed" && (
        <div class="trouble" role="alert">
          <Warning />
          <p>
            The last broadcast failed. {last.reason ?? ""} You can go live again.
          </p>
        </div>
      )}
      <form
        class="prepare"
        onSubmit={(event) => {
          event.preventDefault();
          void broadcast.goLive();
        }}
      >
        <TextField
          label="Title"
          testid="title"
          value={broadcast.title.value}
          onValue={(value) => (broadcast.title.value = value)}
          placeholder="Friday night session"
          error={errors.get("title")}
          maxLength={200}
        />
        <button
          class="go-live"
          type="submit"
          data-testid="go-live"
          disabled={pointless || broadcast.busy.value !== null}
          aria-describedby="go-live-reason"
        >
          <span class="go-live-dot" aria-hidden="true" />
          {broadcast.busy.value === "starting" ? "Going live…" : "Go live"}
        </button>
        <p id="go-live-reason" class="go-live-note quiet">
          {reason ??
            (picked === 0 && !hls
              ? "Records only; nobody outside sees it."
              : `To ${[picked > 0 && format.count(picked, "destination"), hls && "whoever has the watch link"].filter(Boolean).join(" and ")}${record ? ", and recorded" : ""}.`)}
        </p>
        <FieldError text={general?.[1]} />
        <Select
          label="Picture"
          testid="tier"
          choices={[{ id: "", label: "What every destination takes" }, ...broadcast.tiers.value.map(tierChoice)]}
          chosen={broadcast.tier.value ?? ""}
          onChoose={(id) => (broadcast.tier.value = id === "" ? null : id)}
        />
        <Switch
          label="Pass one picture through"
          note="as it comes, while one H.264 picture fills the broadcast"
          testid="passthrough"
          on={broadcast.passthrough.value}
          onTurn={(on) => (broadcast.passthrough.value = on)}
        />
        <Switch label="Record" note="keeps an MP4 of the programme" testid="record" on={record} onTurn={(on) => (broadcast.record.value = on)} />
        {record && (
          <Switch
            label="Separate tracks"
            note="keeps what each musician sends, for a remix"
            testid="stems"
            on={broadcast.stems.value}
            onTurn={(on) => (broadcast.stems.value = on)}
          />
        )}
        <Switch
          label="Watch link"
          note="lets anybody who has it watch over HLS, some seconds late"
          testid="hls"
          on={hls}
          onTurn={(on) => (broadcast.hls.value = on)}
        />
      </form>
      <Destinations
        broadcast={broadcast}
        error={[...errors].find(([field]) => field.startsWith("destinations"))?.[1]}
      />
    </>
  );
}

const STREAM_WORDS: Record<StreamSnapshot["state"], string> = {
  created: "Ready",
  starting: "Starting",
  live: "Live",
  stopping: "Stopping",
  ended: "Ended",
  failed: "Failed",
};

function Running({ broadcast }: { broadcast: Broadcast }): JSX.Element | null {
  const [asking, setAsking] = useState(false);
  const stream = broadcast.stream.value;
  const elapsed = useElapsed(stream);
  if (stream === null) return null;
  const { stats } = stream;
  const stopping = stream.state === "stopping" || broadcast.busy.value === "stopping";
  return (
    <section class="running" aria-label="Status" data-testid="status" data-state={stream.state}>
      <div class={`clock ${stream.state}`}>
        <span class="clock-state" data-testid="stream-state">
          <span class="on-air-dot" aria-hidden="true" />
          {STREAM_WORDS[stream.state]}
        </span>
        <span class="clock-time numbers" data-testid="duration">
          {format.duration(elapsed)}
        </span>
        <span class="clock-title">{stream.title}</span>
      </div>
      <button class="button stop" type="button" data-testid="stop" disabled={stopping} onClick={() => setAsking(true)}>
        <span class="stop-square" aria-hidden="true" /> {stopping ? "Stopping…" : "Stop the broadcast"}
      </button>
      {!broadcast.watching.value && (
        <div class="trouble" role="alert">
          <Warning />
          <p>This status is old: its connection is being restored. The broadcast itself goes on.</p>
        </div>
      )}
      {stream.reason !== null && (
        <div class="trouble" role="alert">
          <Warning />
          <p>{stream.reason}</p>
        </div>
      )}
      <dl class="figures">
        <Figure name="Frames/s" value={stats.fps.toFixed(1)} testid="fps" bad={stream.state === "live" && stats.fps > 0 && stats.fps < stream.programme.fps * 0.9} />
        <Figure name="Bitrate" value={format.bitrate(stats.bitrate_kbps)} testid="bitrate" />
        <Figure name="Dropped" value={String(stats.dropped_frames)} testid="dropped" bad={stats.dropped_frames > 0} />
        <Figure name="Musicians" value={String(stats.musicians)} testid="musicians" />
        <Figure name="Picture" value={`${stream.programme.width}×${stream.programme.height}`} testid="picture" />
        <Figure name="Recorded" value={stream.record ? format.bytes(stats.recorded_bytes) : "off"} testid="recorded" />
      </dl>
      {stats.target_reason != null && (
        <p class="quiet" data-testid="target">
          Video lowered to {format.bitrate(stats.target_video_kbps)}: {stats.target_reason}.
        </p>
      )}
      {stream.programme.passthrough === "auto" && (
        <p class="quiet" data-testid="passed-through" data-state={stats.passed_through ? "passed" : "composed"}>
          {stats.passed_through
            ? "One picture passes through: it goes out as it comes."
            : "No picture passes through: one H.264 picture of this size would have to fill the broadcast, with no name, title or logo over it."}
        </p>
      )}
      <ul class="reach" aria-label="Destinations">
        {stream.destinations.map((destination) => (
          <Reach key={destination.id} destination={destination} />
        ))}
        {stream.destinations.length === 0 && stream.hls_url === null && (
          <li class="quiet">Recording only: this goes to nobody outside.</li>
        )}
      </ul>
      {stream.hls_url !== null && <WatchLink url={new URL(stream.hls_url, location.origin).href} />}
      <ReachChange broadcast={broadcast} stream={stream} />
      {asking && (
        <Dialog title="Stop the broadcast?" onClose={() => setAsking(false)} testid="stop-dialog">
          <p>Everybody watching will see the end now. The musicians stay in the room.</p>
          <div class="row end">
            <button class="button" type="button" onClick={() => setAsking(false)}>
              Stay on air
            </button>
            <button
              class="button danger"
              type="button"
              data-testid="confirm-stop"
              onClick={() => {
                setAsking(false);
                void broadcast.stop();
              }}
            >
              Stop now
            </button>
          </div>
        </Dialog>
      )}
    </section>
  );
}

function Figure(props: { name: string; value: string; testid: string; bad?: boolean }): JSX.Element {
  return (
    <div class={props.bad ? "figure bad" : "figure"}>
      <dt>{props.name}</dt>
      <dd class="numbers" data-testid={props.testid}>
        {props.value}
      </dd>
    </div>
  );
}

type Tone = "good" | "wait" | "bad" | "off";

const DESTINATION_WORDS: Record<DestinationState, { word: string; tone: Tone }> = {
  connecting: { word: "Connecting", tone: "wait" },
  handshaking: { word: "Connecting", tone: "wait" },
  publishing: { word: "Accepted", tone: "wait" },
  live: { word: "Live", tone: "good" },
  stalled: { word: "Stalled", tone: "bad" },
  backoff: { word: "Retrying", tone: "bad" },
  rejected: { word: "Key refused", tone: "bad" },
  stopped: { word: "Stopped", tone: "off" },
};

function Reach({ destination }: { destination: DestinationSnapshot }): JSX.Element {
  const { word, tone } = DESTINATION_WORDS[destination.state];
  const retry = destination.retry_in_ms;
  const notes = [
    destination.state === "live" ? `${format.bytes(destination.bytes_sent)} sent` : null,
    destination.on_backup ? "on the backup server" : null,
    destination.dropped_frames > 0 ? `${destination.dropped_frames} dropped` : null,
    destination.reconnects > 0 ? format.count(destination.reconnects, "reconnect") : null,
    retry !== null ? `next attempt in ${Math.ceil(retry / 1000)}\u00a0s` : null,
  ].filter((note) => note !== null);
  return (
    <li class={`reach-item ${tone}`} data-testid="destination-status" data-state={destination.state}>
      <span class="reach-name">{destination.name}</span>
      <span class={`badge ${tone}`}>{word}</span>
      {destination.hint !== null && <span class="reach-hint">{destination.hint}</span>}
      {notes.length > 0 && <span class="reach-notes numbers">{notes.join(" · ")}</span>}
    </li>
  );
}
