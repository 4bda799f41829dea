/** Everybody in the room, in tiles as large as fit. */

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { initials } from "../format";
import type { Participant, RemoteTrack } from "../room";
import type { Studio } from "../state/studio";
import { MicOff, Speaker, SpeakerOff } from "./icons";
import { tileWidth } from "./layout";
import { Picture, Sound } from "./media";
import { useLevel } from "./meter";

const GAP = 12;

export function Stage({ studio }: { studio: Studio }): JSX.Element {
  const { participants } = studio.view.value;
  const tiles = participants.length + (studio.mayPlay ? 1 : 0);
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
      {studio.mayPlay && <OwnTile studio={studio} />}
      {participants.map((participant) => (
        <Tile key={participant.id} studio={studio} participant={participant} />
      ))}
      {participants.length === 0 && studio.view.value.phase.name === "inside" && (
        <p class="alone" role="status">
          Nobody else is here yet.
        </p>
      )}
    </main>
  );
}

function OwnTile({ studio }: { studio: Studio }): JSX.Element {
  const { microphone, camera } = studio.inputs;
  const { self } = studio.view.value;
  const name = self?.name ?? "You";
  const muted = microphone.off.value || microphone.track.value === null;
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
    </article>
  );
}

function Tile({ studio, participant }: { studio: Studio; participant: Participant }): JSX.Element {
  const audible = participant.tracks.filter((track) => track.kind === "audio");
  const visible = participant.tracks.find((track) => track.kind === "video" && track.source === "screen" && !track.paused)
    ?? participant.tracks.find((track) => track.kind === "video");
  const microphone = audible.find((track) => track.source === "microphone");
  const muted = microphone === undefined || microphone.paused;
  const ref = useLevel<HTMLElement>(microphone?.stream?.getAudioTracks()[0] ?? null, muted);
  const volume = studio.volumes.value.get(participant.id) ?? 1;
  return (
    <article
      ref={ref}
      class="tile"
      data-testid="tile"
      data-participant={participant.id}
      data-name={participant.name}
      aria-label={participant.name}
    >
      {shows(visible) ? (
        <Picture source={visible.stream} label={`${participant.name}'s picture`} />
      ) : (
        <Silhouette name={participant.name} />
      )}
      {audible.map(
        (track) =>
          track.stream !== null && (
            <Sound key={track.id} stream={track.stream} volume={volume} output={studio.inputs.output.value} />
          ),
      )}
      <span class="tile-meter" aria-hidden="true" />
      <footer class="tile-foot">
        <span class="tile-name">
          {muted && <Muted />}
          <span class="name">{participant.name}</span>
          {(participant.role === "host" || participant.role === "admin") && <span class="you">host</span>}
          {participant.role === "viewer" && <span class="you">listening</span>}
        </span>
        {audible.length > 0 && (
          <label class="volume" title="How loud you hear them. The broadcast does not change.">
            {volume === 0 ? <SpeakerOff /> : <Speaker />}
            <span class="sr-only">Volume of {participant.name}</span>
            <input
              type="range"
              min="0"
              max="1"
              step="0.02"
              value={volume}
              data-testid="volume"
              aria-valuetext={`${Math.round(volume * 100)} percent`}
              onInput={(event) => studio.setVolume(participant.id, event.currentTarget.valueAsNumber)}
            />
          </label>
        )}
      </footer>
    </article>
  );
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
