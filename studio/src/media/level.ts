/** How loud a track is now: peaks of each channel, measured beside the path the sound takes, so it adds no delay. */

/** The quietest level shown, dBFS. */
export const FLOOR_DB = -60;

/** At this level the next louder note will distort; shown in red. */
export const CLIP_DB = -1;

let shared: AudioContext | null = null;

/** One context for the page: browsers allow few. It starts suspended until the person has touched the page. */
export function context(): AudioContext {
  shared ??= new AudioContext({ latencyHint: "interactive" });
  if (shared.state === "suspended") void shared.resume().catch(() => undefined);
  return shared;
}

export class LevelMeter {
  private readonly source: MediaStreamAudioSourceNode;
  private readonly analysers: AnalyserNode[] = [];
  private readonly buffer: Float32Array<ArrayBuffer>;

  constructor(track: MediaStreamTrack) {
    const audio = context();
    this.source = audio.createMediaStreamSource(new MediaStream([track]));
    const splitter = audio.createChannelSplitter(2);
    this.source.connect(splitter);
    for (const channel of [0, 1]) {
      const analyser = audio.createAnalyser();
      analyser.fftSize = 2048;
      splitter.connect(analyser, channel);
      this.analysers.push(analyser);
    }
    this.buffer = new Float32Array(2048);
  }

  /** Peak of the last 43 ms, left and right, in dBFS (`FLOOR_DB` to 0 and above). A mono track shows on both. */
  read(): [number, number] {
    if (this.source.context.state === "suspended") context();
    const left = this.peak(0);
    const right = this.peak(1);
    return [left, right === FLOOR_DB ? left : right];
  }

  close(): void {
    this.source.disconnect();
    for (const analyser of this.analysers) analyser.disconnect();
  }

  private peak(channel: number): number {
    this.analysers[channel]?.getFloatTimeDomainData(this.buffer);
    let peak = 0;
    for (const sample of this.buffer) peak = Math.max(peak, Math.abs(sample));
    return decibels(peak);
  }
}

/** Amplitude 0..1 in dBFS, not below `FLOOR_DB`. */
export function decibels(amplitude: number): number {
  return amplitude <= 0 ? FLOOR_DB : Math.max(FLOOR_DB, 20 * Math.log10(amplitude));
}

/** dBFS as a share of the meter, 0 to 1. */
export function shareOfMeter(db: number): number {
  return Math.min(1, Math.max(0, 1 - db / FLOOR_DB));
}
