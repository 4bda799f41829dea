/** How pictures are sent: in which codec, and in how many sizes. */

import type { TrackSource } from "./protocol";

/** A camera goes out in a few sizes side by side (simulcast), or in one stream of layers that build on each other (SVC), of VP9 or AV1. */
export type CameraForm = "sizes" | "layers" | "layers-av1";

/** A camera in as many sizes as it has room for, so that everybody gets the one their tile and their link have room for. */
const CAMERA_SIZES: readonly RTCRtpEncodingParameters[][] = [
  [{ rid: "f", maxBitrate: 300_000, maxFramerate: 30 }],
  [
    { rid: "q", scaleResolutionDownBy: 2, maxBitrate: 150_000, maxFramerate: 30 },
    { rid: "f", maxBitrate: 700_000, maxFramerate: 30 },
  ],
  [
    { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 150_000, maxFramerate: 30 },
    { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 500_000, maxFramerate: 30 },
    { rid: "f", maxBitrate: 1_200_000, maxFramerate: 30 },
  ],
];
/**
 * The same in layers, which build on each other in keyframes only: whoever gets a large one does not get those below it, and whoever
 * gets a small one loses nothing of it to the large ones.
 */
const CAMERA_LAYERS: readonly Layered[] = [
  { scalabilityMode: "L1T3", maxBitrate: 300_000, maxFramerate: 30 },
  { scalabilityMode: "L2T3_KEY", maxBitrate: 750_000, maxFramerate: 30 },
  { scalabilityMode: "L3T3_KEY", maxBitrate: 1_600_000, maxFramerate: 30 },
];
/** Of a camera with fewer pixels than these Chromium sends two sizes or one: the lowest of those asked for, never the full one. */
const PIXELS_FOR_THREE = 960 * 540;
const PIXELS_FOR_TWO = 480 * 270;
/** One size, in which its text stays readable; it seldom moves. */
const SCREEN_ENCODING: RTCRtpEncodingParameters = { maxBitrate: 2_500_000, maxFramerate: 15 };
/** The mode that a browser has to know for layers to be offered to its user. */
const FULLEST = "L3T3_KEY";

/** TypeScript's library does not know what W3C's "Scalable Video Coding Extension for WebRTC" adds. */
type Layered = RTCRtpEncodingParameters & { scalabilityMode: string };

/** VP8 first, H.264 next: the two every gateway and browser shares. VP8 keeps its frame rate on small machines. */
const SIZES_CODECS = ["video/vp8", "video/h264"];
/** The codec of each form in layers. Those above come behind it, for a gateway that does not take it. */
const LAYERS_CODECS = { layers: "video/vp9", "layers-av1": "video/av1" };

export function pictureEncodings(source: TrackSource, track: MediaStreamTrack, form: CameraForm): RTCRtpEncodingParameters[] {
  if (source === "screen") return [SCREEN_ENCODING];
  const { width = 1280, height = 720 } = track.getSettings();
  const pixels = width * height;
  const sizes = pixels >= PIXELS_FOR_THREE ? 2 : pixels >= PIXELS_FOR_TWO ? 1 : 0;
  const layers = CAMERA_LAYERS[sizes];
  return form !== "sizes" && layers !== undefined ? [layers] : (CAMERA_SIZES[sizes] ?? []);
}

export function preferCodecs(transceiver: RTCRtpTransceiver, form: CameraForm): void {
  const codecs = RTCRtpReceiver.getCapabilities("video")?.codecs;
  if (codecs === undefined || !("setCodecPreferences" in transceiver)) return;
  const wanted = form === "sizes" ? SIZES_CODECS : [LAYERS_CODECS[form], ...SIZES_CODECS];
  const rank = (codec: RTCRtpCodec): number => wanted.indexOf(codec.mimeType.toLowerCase());
  const common = codecs.filter((codec) => rank(codec) >= 0).sort((a, b) => rank(a) - rank(b));
  if (common.length > 0) transceiver.setCodecPreferences(common);
}

/** Whether this browser can send a camera so. In layers: it sends the codec, and remembers the mode it is asked for. */
export function canSend(form: CameraForm): boolean {
  if (form === "sizes") return true;
  const codecs = globalThis.RTCRtpSender?.getCapabilities?.("video")?.codecs ?? [];
  if (!codecs.some((codec) => codec.mimeType.toLowerCase() === LAYERS_CODECS[form])) return false;
  const pc = new RTCPeerConnection();
  try {
    const encoding: RTCRtpEncodingParameters & Partial<Layered> = { scalabilityMode: FULLEST } as Layered;
    const { sender } = pc.addTransceiver("video", { direction: "sendonly", sendEncodings: [encoding] });
    return (sender.getParameters().encodings[0] as Partial<Layered> | undefined)?.scalabilityMode === FULLEST;
  } catch {
    return false;
  } finally {
    pc.close();
  }
}
