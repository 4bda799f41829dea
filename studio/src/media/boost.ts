/** Makes a remote sound louder than it was sent, which the volume of an element cannot. */

import { context } from "./level";

/** A gain node between a stream and the loudspeaker. Only for gains above 1: an element alone has the shorter way. */
export class Boost {
  private readonly source: MediaStreamAudioSourceNode;
  private readonly gain: GainNode;

  constructor(stream: MediaStream) {
    const audio = context();
    this.source = audio.createMediaStreamSource(stream);
    this.gain = audio.createGain();
    this.source.connect(this.gain).connect(audio.destination);
  }

  set(gain: number): void {
    // A jump would click.
    this.gain.gain.setTargetAtTime(gain, this.gain.context.currentTime, 0.01);
  }

  /** Plays on another device; without support it stays where it is. */
  playOn(output: string): void {
    const audio = this.gain.context as AudioContext & { setSinkId?(id: string): Promise<void> };
    audio.setSinkId?.(output).catch(() => undefined);
  }

  close(): void {
    this.source.disconnect();
    this.gain.disconnect();
  }
}
