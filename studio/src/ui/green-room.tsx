/** The green room: see yourself, hear that you are heard, then walk on. */

import type { JSX } from "preact";
import { useEffect } from "preact/hooks";

import type { Studio } from "../state/studio";
import { DeviceSettings } from "./device-settings";
import { Select } from "./fields";
import { Camera, CameraOff, Headphones, Mark, Mic, MicOff } from "./icons";
import { Picture } from "./media";

export function GreenRoom({ studio }: { studio: Studio }): JSX.Element {
  const { claims } = studio.invitation;
  useEffect(() => {
    if (studio.mayPlay) void studio.inputs.openAll();
  }, [studio]);
  return (
    <main class="green-room">
      <header class="green-head">
        <p class="brand">
          <Mark /> Jamcast
        </p>
        <h1>
          {claims.name !== null ? `Hello ${claims.name}` : "Welcome"}
          {claims.room !== null && (
            <span class="quiet-title">
              , ready for <em>{claims.room}</em>?
            </span>
          )}
        </h1>
      </header>
      {studio.mayPlay ? <SoundCheck studio={studio} /> : <ListenOnly />}
      <JoinBar studio={studio} />
    </main>
  );
}

function SoundCheck({ studio }: { studio: Studio }): JSX.Element {
  const { inputs } = studio;
  return (
    <div class="sound-check">
      <section class="preview" aria-label="Your picture">
        <Preview studio={studio} />
        <div class="preview-buttons">
          <Toggles studio={studio} />
        </div>
      </section>
      <section class="checks card" aria-label="Your devices">
        {inputs.microphones.value.length === 0 && inputs.microphone.trouble.value === null ? (
          <p class="quiet" role="status">
            Your browser asks for your camera and microphone now. Nobody sees or hears you before you join.
          </p>
        ) : null}
        <DeviceSettings inputs={inputs} />
        <Select
          label="Your camera is sent as"
          testid="camera-form-select"
          choices={studio.cameraSetting.choices}
          chosen={studio.cameraSetting.form.value}
          onChoose={(id) => studio.cameraSetting.choose(id)}
        />
        <p class="hint">
          <Headphones />
          <span>
            <strong>Wear headphones, on a cable if you can.</strong> Your sound is sent untouched, in stereo, with no echo
            cancelling; loudspeakers would send the others back to themselves.
          </span>
        </p>
      </section>
    </div>
  );
}

function ListenOnly(): JSX.Element {
  return (
    <section class="card listen-only">
      <Headphones />
      <p>This invitation is for listening and watching. Your camera and microphone stay off.</p>
    </section>
  );
}

function Preview({ studio }: { studio: Studio }): JSX.Element {
  const { camera, microphone } = studio.inputs;
  const track = camera.track.value;
  if (track !== null) return <Picture source={track} mirrored label="Your own picture, mirrored" />;
  const text = camera.opening.value
    ? "Opening your camera…"
    : camera.off.value
      ? "Your camera is off"
      : camera.trouble.value !== null
        ? microphone.track.value !== null
          ? "No picture: you can join with sound alone"
          : "No picture and no sound: you can join to listen"
        : "Waiting for your camera";
  return (
    <div class="no-picture">
      <CameraOff />
      <p>{text}</p>
    </div>
  );
}

/** Mute and camera buttons, the same everywhere. */
export function Toggles({ studio }: { studio: Studio }): JSX.Element {
  const { microphone, camera } = studio.inputs;
  const heard = microphone.track.value !== null && !microphone.off.value;
  const seen = camera.track.value !== null;
  return (
    <>
      <button
        class={heard ? "button round" : "button round off"}
        type="button"
        data-testid="mic-toggle"
        aria-pressed={!heard}
        aria-label={heard ? "Mute your microphone" : "Unmute your microphone"}
        title={heard ? "Mute (M)" : "Unmute (M)"}
        onClick={() => void microphone.toggle()}
      >
        {heard ? <Mic /> : <MicOff />}
      </button>
      <button
        class={seen ? "button round" : "button round off"}
        type="button"
        data-testid="camera-toggle"
        aria-pressed={!seen}
        aria-label={seen ? "Switch your camera off" : "Switch your camera on"}
        title={seen ? "Camera off (V)" : "Camera on (V)"}
        disabled={camera.opening.value}
        onClick={() => void camera.toggle()}
      >
        {seen ? <Camera /> : <CameraOff />}
      </button>
    </>
  );
}

function JoinBar({ studio }: { studio: Studio }): JSX.Element {
  const { microphone, camera } = studio.inputs;
  const { phase } = studio.view.value;
  const opening = microphone.opening.value || camera.opening.value;
  const hasSound = microphone.track.value !== null;
  const hasPicture = camera.track.value !== null;
  const label = !studio.mayPlay || (!hasSound && !hasPicture)
    ? "Join to listen"
    : !hasSound
      ? "Join without sound"
      : hasPicture
        ? "Join"
        : "Join with sound only";
  const joining = phase.name === "joining" || phase.name === "reconnecting";
  return (
    <div class="join-bar">
      <button
        class="button primary big"
        type="button"
        data-testid="join-button"
        disabled={joining}
        onClick={() => studio.join()}
      >
        {joining ? "Opening the door…" : label}
      </button>
      <p class="quiet" role="status">
        {phase.name === "reconnecting"
          ? "The gateway does not answer yet; trying again."
          : opening && studio.mayPlay
            ? "Waiting for your devices. You can join without them."
            : ""}
      </p>
    </div>
  );
}
