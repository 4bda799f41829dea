/** A canvas' pictures as frames: by the browser's own video encoder where it has one, as JPEG elsewhere. */

import type { CanvasFormat } from "./frame";
import type { Encoder, Pace, Picture } from "./relay";

/** The level of H.264 holds 1080p at 30 fps; the profile is the one every encoder has. */
const CODECS: { format: CanvasFormat; codec: string }[] = [
  { format: "h264", codec: "avc1.42e028" },
  { format: "vp8", codec: "vp8" },
];

/** A change of rate smaller than this share is not worth an encoder's new beginning. */
const RATE_STEP = 0.08;

/** The best encoder that this browser and the gateway share. */
export async function encoderFor(canvas: HTMLCanvasElement, formats: CanvasFormat[]): Promise<Encoder> {
  if (typeof VideoEncoder === "function") {
    for (const { format, codec } of CODECS.filter((each) => formats.includes(each.format))) {
      const { width, height } = sizeOf(canvas, 1);
      const config = configuration(format, codec, width, height, { max_fps: 30, max_kbps: 2500, scale: 1 });
      const answer = await VideoEncoder.isConfigSupported(config).catch(() => null);
      if (answer?.supported === true) return new WebCodecs(canvas, format, codec);
    }
  }
  return new Jpeg(canvas);
}

function configuration(format: CanvasFormat, codec: string, width: number, height: number, pace: Pace): VideoEncoderConfig {
  const config: VideoEncoderConfig = {
    codec,
    width,
    height,
    bitrate: pace.max_kbps * 1000,
    framerate: Math.max(1, pace.max_fps),
    latencyMode: "realtime",
  };
  if (format === "h264") config.avc = { format: "annexb" };
  return config;
}

/** Even sides, as the codecs want them. */
function sizeOf(canvas: HTMLCanvasElement, scale: number): { width: number; height: number } {
  const even = (side: number): number => Math.max(16, Math.round((side * scale) / 2) * 2);
  return { width: even(canvas.width), height: even(canvas.height) };
}

/** The canvas, or a smaller copy of it. */
class Scaler {
  private readonly copy = document.createElement("canvas");
  private readonly canvas: HTMLCanvasElement;

  constructor(canvas: HTMLCanvasElement) {
    this.canvas = canvas;
  }

  picture(scale: number): HTMLCanvasElement {
    const { width, height } = sizeOf(this.canvas, scale);
    if (width === this.canvas.width && height === this.canvas.height) return this.canvas;
    if (this.copy.width !== width || this.copy.height !== height) {
      this.copy.width = width;
      this.copy.height = height;
    }
    this.copy.getContext("2d", { alpha: false })?.drawImage(this.canvas, 0, 0, width, height);
    return this.copy;
  }
}

class WebCodecs implements Encoder {
  emit: Encoder["emit"] = () => undefined;
  fail: Encoder["fail"] = () => undefined;

  private readonly format: CanvasFormat;
  private readonly codec: string;
  private readonly scaler: Scaler;
  private readonly encoder: VideoEncoder;
  private configured: VideoEncoderConfig | null = null;

  constructor(canvas: HTMLCanvasElement, format: CanvasFormat, codec: string) {
    this.format = format;
    this.codec = codec;
    this.scaler = new Scaler(canvas);
    this.encoder = new VideoEncoder({
      output: (chunk) => {
        const data = new Uint8Array(chunk.byteLength);
        chunk.copyTo(data);
        const { width, height } = this.configured ?? { width: 0, height: 0 };
        this.emit({ format, key: chunk.type === "key", width, height, timestampUs: chunk.timestamp, data });
      },
      error: (error) => this.fail(`The browser cannot encode the canvas: ${error.message}`),
    });
  }

  encode({ key, timestampUs, pace }: Picture): void {
    if (this.encoder.state === "closed") return;
    const source = this.scaler.picture(pace.scale);
    const fresh = this.configure(source.width, source.height, pace);
    const frame = new VideoFrame(source, { timestamp: timestampUs });
    this.encoder.encode(frame, { keyFrame: key || fresh });
    frame.close();
  }

  close(): void {
    if (this.encoder.state !== "closed") this.encoder.close();
  }

  /** Whether the encoder begins anew. */
  private configure(width: number, height: number, pace: Pace): boolean {
    const wanted = configuration(this.format, this.codec, width, height, pace);
    const now = this.configured;
    const rate = now?.bitrate ?? 0;
    const same = now?.width === width && now.height === height;
    if (same && Math.abs((wanted.bitrate ?? 0) - rate) <= rate * RATE_STEP) return false;
    this.encoder.configure(wanted);
    this.configured = wanted;
    return !same;
  }
}

class Jpeg implements Encoder {
  emit: Encoder["emit"] = () => undefined;
  fail: Encoder["fail"] = () => undefined;

  private readonly scaler: Scaler;
  private quality = 0.8;
  private busy = false;
  private closed = false;

  constructor(canvas: HTMLCanvasElement) {
    this.scaler = new Scaler(canvas);
  }

  encode({ timestampUs, pace }: Picture): void {
    if (this.busy || this.closed) return;
    this.busy = true;
    const source = this.scaler.picture(pace.scale);
    const { width, height } = source;
    source.toBlob(
      (blob) => {
        void blob?.arrayBuffer().then((data) => {
          this.busy = false;
          const budget = (pace.max_kbps * 125) / Math.max(1, pace.max_fps);
          const step = data.byteLength > budget ? -0.08 : 0.02;
          this.quality = Math.min(0.9, Math.max(0.3, this.quality + step));
          if (!this.closed) this.emit({ format: "jpeg", key: true, width, height, timestampUs, data: new Uint8Array(data) });
        });
      },
      "image/jpeg",
      this.quality,
    );
  }

  close(): void {
    this.closed = true;
  }
}
