/** Everybody in the room, in tiles as large as fit. */

import type { JSX } from "preact";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

import { initials } from "../format";
import type { Participant, ParticipantInfo, RemoteTrack } from "../room";
import type { Studio } from "../state/studio";
import { LOUDEST } from "../state/mix";
import { DelayChip } from "./delays";
import { MicOff, More, Speaker, SpeakerOff } from "./icons";
import { tileWidth } from "./layout";
import { Picture, Sound } from "./media";
import { useLevel } from "./meter";
import { PersonDialog } from "./person";

const GAP = 12;

export function Stage({ studio, onDelays }: { studio: Studio; onDelays(): void }): JSX.Element {
  const { participants, state } = studio.view.value;
  const [chosen, setChosen] = useState<string | null>(null);
  const person = participants.find((participant) => participant.id === chosen);
  const screens = participants.flatMap((participant) => participant.tracks.filter((track) => isScreen(track, participant)));
  const ownScreen = studio.inputs.screen.value;
  const tiles = participants.length + screens.length + (studio.mayPlay ? 1 : 0) + (ownScreen === null ? 0 : 1);
  // Who stands in the spotlight stands first.
  const inOrder = [...participants].sort((a, b) => Number(b.id === state.spotlight) - Number(a.id === state.spotlight));
  const ref = useRef<HTMLElement>(null);
  useEffect(() => {
    const stage = ref.current;
    if (stage === null) return;
    const fit = (): void => {
      const { clientWidth, clientHeight } = stage;
      stage.style.setProperty("--tile", `${tileWidth(clientWidth, clientHeight, tiles, GAP)}px`);
    };
    const observer = new ResizeObserver(fit);
    observer.observe(stage);
    fit();
    return () => observer.disconnect();
  }, [tiles]);
  return (
    <main ref={ref} class="stage" aria-label="Everybody in the room">
      {screens.map((track) => (
        <ScreenTile key={track.id} track={track} owner={participants.find((each) => each.id === track.participant)?.name ?? ""} />
      ))}
      {ownScreen !== null && (
        <article class="tile" data-testid="own-screen" aria-label="Your screen">
          <Picture source={ownScreen} whole label="Your screen, as the others see it" />
          <footer class="tile-foot">
            <span class="tile-name">
              <span class="name">Your screen</span>
            </span>
          </footer>
        </article>
      )}
      {studio.mayPlay && <OwnTile studio={studio} />}
      {inOrder.map((participant) => (
        <Tile
          key={participant.id}
          studio={studio}
          participant={participant}
          onChoose={() => setChosen(participant.id)}
          onDelays={onDelays}
        />
      ))}
      {participants.length === 0 && studio.view.value.phase.name === "inside" && (
        <p class="alone" role="status">
          Nobody else is here yet.
        </p>
      )}
      {person !== undefined && studio.isHost && (
        <PersonDialog studio={studio} person={person} onClose={() => setChosen(null)} />
      )}
    </main>
  );
}

function OwnTile({ studio }: { studio: Studio }): JSX.Element {
  const { microphone, camera } = studio.inputs;
  const { self, state } = studio.view.value;
  const name = self?.name ?? "You";
  const muted = microphone.off.value || microphone.track.value === null || self?.audio_muted === true;
  const ref = useLevel<HTMLElement>(microphone.track.value, muted);
  return (
    <article ref={ref} class="tile own" data-testid="self-tile" aria-label={`${name}, you`}>
      {camera.track.value === null ? (
        <Silhouette name={name} />
      ) : (
        <Picture source={camera.track.value} mirrored label="Your own picture, mirrored" />
      )}
      <span class="tile-meter" aria-hidden="true" />
      <footer class="tile-foot">
        <span class="tile-name">
          {muted && <Muted />}
          <span class="name">{name}</span> <span class="you">you</span>
        </span>
      </footer>
      <header class="tile-head">{self !== null && <Marks person={self} spotlight={state.spotlight} />}</header>
    </article>
  );
}

/** A screen is a picture of its own beside its owner's camera. */
function ScreenTile({ track, owner }: { track: RemoteTrack; owner: string }): JSX.Element {
  return (
    <article class="tile" data-testid="screen-tile" aria-label={`${owner}'s screen`}>
      {track.stream !== null && <Picture source={track.stream} whole label={`${owner}'s screen`} />}
      <footer class="tile-foot">
        <span class="tile-name">
          <span class="name">{owner}'s screen</span>
        </span>
      </footer>
    </article>
  );
}

function Tile(props: { studio: Studio; participant: Participant; onChoose(): void; onDelays(): void }): JSX.Element {
  const { studio, participant } = props;
  const { state } = studio.view.value;
  const audible = participant.tracks.filter((track) => track.kind === "audio");
  const visible = participant.tracks.find((track) => track.kind === "video" && track.source !== "screen");
  const microphone = audible.find((track) => track.source === "microphone");
  const muted = microphone === undefined || microphone.paused || participant.audio_muted;
  const sounds = microphone !== undefined && studio.sounding.value.has(microphone.id);
  const ref = useLevel<HTMLElement>(microphone?.stream?.getAudioTracks()[0] ?? null, muted);
  const gain = studio.mix.of(participant.name);
  const shown = visible?.id;
  const sized = useCallback(
    (size: { width: number; height: number }) => shown !== undefined && studio.setTile(shown, size),
    [studio, shown],
  );
  return (
    <article
      ref={ref}
      class="tile"
      data-testid="tile"
      data-participant={participant.id}
      data-name={participant.name}
      data-sounds={sounds}
      aria-label={participant.name}
    >
      {shows(visible) && !participant.video_muted ? (
        <Picture source={visible.stream} label={`${participant.name}'s picture`} onSize={sized} />
      ) : (
        <Silhouette name={participant.name} />
      )}
      {audible.map(
        (track) =>
          track.stream !== null && (
            <Sound key={track.id} stream={track.stream} gain={gain} output={studio.inputs.output.value} />
          ),
      )}
      <span class="tile-meter" aria-hidden="true" />
      <header class="tile-head">
        {studio.isHost && (
          <button
            class="button round tile-more"
            type="button"
            data-testid="person"
            aria-label={`Decide about ${participant.name}`}
            title="Mute, isolate, spotlight, remove"
            onClick={props.onChoose}
          >
            <More />
          </button>
        )}
        <DelayChip studio={studio} person={participant} onOpen={props.onDelays} />
        <Marks person={participant} spotlight={state.spotlight} />
      </header>
      <footer class="tile-foot">
        <span class="tile-name">
          {muted && participant.role !== "viewer" && <Muted />}
          <span class="name">{participant.name}</span>
          {(participant.role === "host" || participant.role === "admin") && <span class="you">host</span>}
          {participant.role === "viewer" && <span class="you">listening</span>}
        </span>
        {audible.length > 0 && (
          <label class="volume" title="How loud you hear them. Nobody else's mix and no broadcast change.">
            {gain === 0 ? <SpeakerOff /> : <Speaker />}
            <span class="sr-only">Volume of {participant.name}</span>
            <input
              type="range"
              min="0"
              max={LOUDEST}
              step="0.05"
              value={gain}
              data-testid="volume"
              aria-valuetext={`${Math.round(gain * 100)} percent`}
              onInput={(event) => studio.mix.set(participant.name, event.currentTarget.valueAsNumber)}
            />
          </label>
        )}
      </footer>
    </article>
  );
}

/** What a host has decided about somebody, for everybody to see. */
function Marks({ person, spotlight }: { person: ParticipantInfo; spotlight: string | null }): JSX.Element {
  return (
    <>
      {spotlight === person.id && <span class="mark-chip" data-testid="spotlit">spotlight</span>}
      {person.isolated && <span class="mark-chip grave" data-testid="isolated">isolated</span>}
      {person.audio_muted && <span class="mark-chip grave" data-testid="host-muted">muted by host</span>}
    </>
  );
}

function isScreen(track: RemoteTrack, owner: Participant): boolean {
  return track.source === "screen" && !track.paused && !owner.video_muted;
}

function shows(track: RemoteTrack | undefined): track is RemoteTrack & { stream: MediaStream } {
  return track !== undefined && !track.paused && track.stream !== null;
}

function Silhouette({ name }: { name: string }): JSX.Element {
  return (
    <div class="silhouette" aria-hidden="true">
      <span>{initials(name)}</span>
    </div>
  );
}

function Muted(): JSX.Element {
  return (
    <span class="muted-mark" data-testid="muted">
      <MicOff />
      <span class="sr-only">muted, </span>
    </span>
  );
}
