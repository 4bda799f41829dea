/** Cameras and microphones: asking for them as a musician needs them, and saying in plain words why that failed. */

/** Every "improvement" for speech ruins music: echo cancellers gate, noise suppressors eat sustain, gain control pumps. */
export const MUSIC_CONSTRAINTS: MediaTrackConstraints = {
  echoCancellation: false,
  noiseSuppression: false,
  autoGainControl: false,
  channelCount: { ideal: 2 },
  sampleRate: { ideal: 48_000 },
};

export const PICTURE_CONSTRAINTS: MediaTrackConstraints = {
  width: { ideal: 1280, max: 1280 },
  height: { ideal: 720, max: 720 },
  frameRate: { ideal: 30, max: 30 },
};

export type Device = "microphone" | "camera";

export interface DeviceTrouble {
  reason: "denied" | "missing" | "busy" | "insecure" | "other";
  /** What happened and what to do, for people. */
  message: string;
}

export interface DeviceChoice {
  id: string;
  label: string;
}

export async function openMicrophone(deviceId: string | null): Promise<MediaStreamTrack> {
  return soundOf(await devices().getUserMedia({ audio: { ...MUSIC_CONSTRAINTS, ...exactly(deviceId) } }));
}

export async function openCamera(deviceId: string | null): Promise<MediaStreamTrack> {
  return pictureOf(await devices().getUserMedia({ video: { ...PICTURE_CONSTRAINTS, ...exactly(deviceId) } }));
}

/** What the person chooses to show; fails with `NotAllowedError` when they think better of it. */
export async function openScreen(): Promise<MediaStreamTrack> {
  const track = pictureOf(await devices().getDisplayMedia({ video: { frameRate: { ideal: 15, max: 30 } } }));
  // Text must stay sharp; it seldom moves.
  track.contentHint = "detail";
  return track;
}

/** Phones cannot share their screen. */
export function canShareScreen(): boolean {
  return "mediaDevices" in navigator && "getDisplayMedia" in navigator.mediaDevices;
}

/** Both with one question to the person; fails when either cannot be had. */
export async function openBoth(): Promise<{ microphone: MediaStreamTrack; camera: MediaStreamTrack }> {
  const stream = await devices().getUserMedia({ audio: MUSIC_CONSTRAINTS, video: PICTURE_CONSTRAINTS });
  return { microphone: soundOf(stream), camera: pictureOf(stream) };
}

/** What can be chosen now. Before a permission browsers hide the labels, so numbers stand in for them. */
export async function choices(kind: MediaDeviceKind): Promise<DeviceChoice[]> {
  if (!("mediaDevices" in navigator)) return [];
  const words = { audioinput: "Microphone", videoinput: "Camera", audiooutput: "Output" };
  return (await navigator.mediaDevices.enumerateDevices())
    .filter((device) => device.kind === kind && device.deviceId !== "")
    .map((device, index) => ({ id: device.deviceId, label: device.label || `${words[kind]} ${index + 1}` }));
}

export function explain(device: Device, error: unknown): DeviceTrouble {
  const name = error instanceof DOMException || error instanceof Error ? error.name : "";
  switch (name) {
    case "NotAllowedError":
    case "PermissionDeniedError":
      return {
        reason: "denied",
        message: `Your browser keeps the ${device} from this page. Click the icon beside the address, allow the ${device}, then try again.`,
      };
    case "NotFoundError":
    case "OverconstrainedError":
      return { reason: "missing", message: `No ${device} was found. Plug one in, then try again.` };
    case "NotReadableError":
    case "AbortError":
      return {
        reason: "busy",
        message: `The ${device} is used by another program. Close that program, then try again.`,
      };
    case "InsecureContextError":
      return {
        reason: "insecure",
        message: "Browsers give devices only to secure pages. Open the studio by https:// or on localhost.",
      };
    default:
      return { reason: "other", message: `The ${device} could not be opened. Try again, or choose another one.` };
  }
}

function soundOf(stream: MediaStream): MediaStreamTrack {
  const track = stream.getAudioTracks()[0];
  if (track === undefined) throw new DOMException("no audio track", "NotFoundError");
  track.contentHint = "music";
  return track;
}

function pictureOf(stream: MediaStream): MediaStreamTrack {
  const track = stream.getVideoTracks()[0];
  if (track === undefined) throw new DOMException("no video track", "NotFoundError");
  track.contentHint = "motion";
  return track;
}

function devices(): MediaDevices {
  if (!("mediaDevices" in navigator)) {
    const error = new Error("devices need a secure page");
    error.name = "InsecureContextError";
    throw error;
  }
  return navigator.mediaDevices;
}

function exactly(deviceId: string | null): MediaTrackConstraints {
  return deviceId === null ? {} : { deviceId: { exact: deviceId } };
}
