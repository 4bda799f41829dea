/** The room: who is here, whether everything is connected, and for hosts the broadcast beside it. */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import * as format from "../format";
import { canShareScreen } from "../media/devices";
import type { Links, LinkState, Phase } from "../room";
import type { Studio } from "../state/studio";
import { BroadcastPanel } from "./broadcast-panel";
import { DelayTable } from "./delays";
import { DeviceSettings } from "./device-settings";
import { Dialog } from "./dialog";
import { Toggles } from "./green-room";
import { Antenna, Invite as InviteIcon, Leave, Lock, Mark, Screen, Settings, Unlocked } from "./icons";
import { Invite } from "./invite";
import { OnAir } from "./on-air";
import { Stage } from "./stage";

/** Wide enough for the panel to stand beside the stage instead of over it; the same number is in room.css. */
const ROOMY = "(min-width: 62rem)";

export function RoomPage({ studio }: { studio: Studio }): JSX.Element {
  const { phase, room, self } = studio.view.value;
  const broadcast = studio.broadcast.value;
  const [panel, setPanel] = useState(() => window.matchMedia(ROOMY).matches);
  const [dialog, setDialog] = useState<"invite" | "devices" | "delays" | null>(null);
  useShortcuts(studio);
  const showsPanel = broadcast !== null && panel;
  return (
    <div class={showsPanel ? "room with-panel" : "room"} data-testid="room" data-phase={phase.name}>
      <header class="room-head">
        <Mark />
        <div class="room-title">
          <h1>{room}</h1>
          <span class="role">{self?.role}</span>
          <RoomLock studio={studio} />
        </div>
        {broadcast !== null && <OnAir broadcast={broadcast} />}
        <Connection studio={studio} onDelays={() => setDialog("delays")} />
      </header>
      <Reconnecting studio={studio} phase={phase} />
      <Decided studio={studio} phase={phase} />
      <Stage studio={studio} onDelays={() => setDialog("delays")} />
      <nav class="controls" aria-label="Controls">
        {studio.mayPlay && <Toggles studio={studio} />}
        {studio.mayPlay && canShareScreen() && <ShareScreen studio={studio} />}
        <button
          class="button round"
          type="button"
          aria-label="Devices"
          title="Devices"
          data-testid="devices"
          onClick={() => {
            setDialog("devices");
            void studio.inputs.refresh();
          }}
        >
          <Settings />
        </button>
        {broadcast !== null && (
          <>
            <button class="button pill" type="button" data-testid="invite" onClick={() => setDialog("invite")}>
              <InviteIcon /> <span class="wide-only">Invite</span>
              <span class="sr-only narrow-only">Invite</span>
            </button>
            <button
              class={broadcast.running.value ? "button pill narrow-bare on" : "button pill narrow-bare"}
              type="button"
              data-testid="broadcast-toggle"
              aria-expanded={panel}
              aria-controls="broadcast"
              onClick={() => setPanel(!panel)}
            >
              <Antenna /> Broadcast
            </button>
          </>
        )}
        <button class="button pill leave" type="button" data-testid="leave" onClick={() => void studio.leave()}>
          <Leave /> <span class="wide-only">Leave</span>
          <span class="sr-only narrow-only">Leave</span>
        </button>
      </nav>
      {showsPanel && <BroadcastPanel studio={studio} broadcast={broadcast} onClose={() => setPanel(false)} />}
      {dialog === "invite" && broadcast !== null && <Invite broadcast={broadcast} onClose={() => setDialog(null)} />}
      {dialog === "delays" && <DelayTable studio={studio} onClose={() => setDialog(null)} />}
      {dialog === "devices" && (
        <Dialog title="Devices" onClose={() => setDialog(null)}>
          <DeviceSettings inputs={studio.inputs} />
        </Dialog>
      )}
    </div>
  );
}

function ShareScreen({ studio }: { studio: Studio }): JSX.Element {
  const shared = studio.inputs.screen.value !== null;
  const label = shared ? "Stop sharing your screen" : "Share your screen";
  return (
    <button
      class={shared ? "button round wide-button on" : "button round wide-button"}
      type="button"
      data-testid="share-screen"
      aria-pressed={shared}
      aria-label={label}
      title={label}
      onClick={() => studio.shareScreen()}
    >
      <Screen />
    </button>
  );
}

/** Everybody sees a locked door; hosts have the key. */
function RoomLock({ studio }: { studio: Studio }): JSX.Element | null {
  const { locked } = studio.view.value.state;
  if (!studio.isHost) {
    return locked ? (
      <span class="role" data-testid="locked" title="Nobody else can come in">
        locked
      </span>
    ) : null;
  }
  const label = locked ? "Unlock the room" : "Lock the room: nobody else can come in";
  return (
    <button
      class={locked ? "button icon-only ghost locked" : "button icon-only ghost"}
      type="button"
      data-testid="lock"
      aria-pressed={locked}
      aria-label={label}
      title={label}
      onClick={() => studio.decide(locked ? "unlock the room" : "lock the room", (decide) => decide.lock(!locked))}
    >
      {locked ? <Lock /> : <Unlocked />}
    </button>
  );
}

/** What a host has decided about us, because no button of ours shows it. */
function Decided({ studio, phase }: { studio: Studio; phase: Phase }): JSX.Element | null {
  const { self } = studio.view.value;
  if (self === null || phase.name !== "inside") return null;
  const words = [
    self.isolated && "Only the host sees and hears you now.",
    self.audio_muted && "The host has muted you. You cannot unmute yourself; ask the host.",
    self.video_muted && "The host has hidden your camera and screen.",
  ].filter((text) => text !== false);
  if (words.length === 0) return null;
  return (
    <div class="banner" role="status" data-testid="decided">
      <p>{words.join(" ")}</p>
    </div>
  );
}

/** M and V, unless somebody is writing. */
function useShortcuts(studio: Studio): void {
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      const writing = event.target instanceof HTMLElement && event.target.closest("input, select, textarea, dialog") !== null;
      if (writing || event.repeat || event.ctrlKey || event.metaKey || event.altKey || !studio.mayPlay) return;
      if (event.key === "m") void studio.inputs.microphone.toggle();
      if (event.key === "v") void studio.inputs.camera.toggle();
    };
    window.addEventListener("keydown", press);
    return () => window.removeEventListener("keydown", press);
  }, [studio]);
}

const LINK_WORDS: Record<LinkState, string> = {
  off: "not in use",
  connecting: "connecting",
  up: "connected",
  down: "interrupted",
};

function Connection({ studio, onDelays }: { studio: Studio; onDelays(): void }): JSX.Element {
  const { links } = studio.view.value;
  const { roundTripMs, loss } = studio.quality.value;
  const names: [keyof Links, string][] = [
    ["signalling", "Gateway"],
    ...(studio.mayPlay ? [["send", "Sending"] as [keyof Links, string]] : []),
    ["recv", "Receiving"],
  ];
  return (
    <div class="connection" data-testid="connection">
      <ul class="links">
        {names.map(([key, name]) => (
          <li key={key} class={`link ${links[key]}`} data-testid={`link-${key}`} data-state={links[key]}>
            <span class="link-dot" aria-hidden="true" />
            <span class="link-name">{name}</span>
            <span class="sr-only"> {LINK_WORDS[links[key]]}</span>
          </li>
        ))}
      </ul>
      {roundTripMs !== null && links.signalling === "up" && (
        <button
          class="quality"
          type="button"
          data-testid="delays"
          title="To the gateway and back, and the share of packets lost on the way to you. Press for everybody's delays"
          onClick={onDelays}
        >
          {format.delay(roundTripMs)}
          {loss !== null && loss >= 0.005 && <span class="loss"> {(loss * 100).toFixed(1)} % lost</span>}
        </button>
      )}
    </div>
  );
}

function Reconnecting({ studio, phase }: { studio: Studio; phase: Phase }): JSX.Element | null {
  const [now, setNow] = useState(Date.now());
  const waiting = phase.name === "reconnecting";
  useEffect(() => {
    if (!waiting) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, [waiting]);
  if (phase.name !== "reconnecting") return null;
  const { send, recv } = studio.view.value.links;
  const goesOn = send === "up" || recv === "up";
  const seconds = Math.ceil((phase.retryAt - now) / 1000);
  return (
    <div class="banner" role="alert" data-testid="reconnecting">
      <span class="spinner" aria-hidden="true" />
      <p>
        The connection was lost. {seconds > 0 ? `Trying again in ${seconds} s.` : "Trying again…"}
        <span class="quiet">{goesOn ? " You still see and hear each other." : " A broadcast goes on without you."}</span>
      </p>
      <button class="button small" type="button" onClick={() => studio.retryNow()}>
        Try now
      </button>
    </div>
  );
}
