/** Pictures and sound on the page. */

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { Boost } from "../media/boost";
/** A window that is being resized changes its pictures' sizes with every frame. */
const SIZE_RESTS_MS = 250;

/** A picture. A musician's sound has its own element, so that neither waits for the other; the broadcast's is heard with its picture. */
export function Picture(props: {
  source: MediaStreamTrack | MediaStream;
  mirrored?: boolean;
  /** Nothing may be cut off: a screen, with text on it. */
  whole?: boolean;
  label: string;
  /** Where the sound that comes with it is heard; nowhere unless this is there. `null` is the usual output. */
  hearOn?: string | null;
  /** Called with the size on the screen, in device pixels, once it rests after a change. */
  onSize?: (size: { width: number; height: number }) => void;
}): JSX.Element {
  const ref = useRef<HTMLVideoElement>(null);
  const { onSize } = props;
  useEffect(() => {
    const video = ref.current;
    if (video === null || onSize === undefined) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const tell = (): void => {
      const scale = window.devicePixelRatio;
      onSize({ width: Math.round(video.clientWidth * scale), height: Math.round(video.clientHeight * scale) });
    };
    const observer = new ResizeObserver(() => {
      clearTimeout(timer);
      timer = setTimeout(tell, SIZE_RESTS_MS);
    });
    observer.observe(video);
    return () => {
      observer.disconnect();
      clearTimeout(timer);
    };
  }, [onSize]);
  useEffect(() => {
    const video = ref.current;
    if (video === null) return;
    video.srcObject = props.source instanceof MediaStream ? props.source : new MediaStream([props.source]);
    // Interrupted by the next source or by leaving: then there is nothing to play.
    video.play().catch(() => undefined);
    return () => {
      video.srcObject = null;
    };
  }, [props.source]);
  const { hearOn } = props;
  useEffect(() => {
    const video = ref.current;
    if (video === null || typeof hearOn !== "string") return;
    // An output that is gone leaves the sound where it is.
    if ("setSinkId" in video) video.setSinkId(hearOn).catch(() => undefined);
  }, [hearOn]);
  return (
    <video
      ref={ref}
      class={["picture", props.mirrored && "mirrored", props.whole && "whole"].filter(Boolean).join(" ")}
      autoPlay
      playsInline
      muted={hearOn === undefined}
      aria-label={props.label}
      disablePictureInPicture
    />
  );
}

/** A sound at `gain` times what was sent. Up to 1 the element itself does it; above, a gain node takes over. */
export function Sound({ stream, gain, output }: { stream: MediaStream; gain: number; output: string | null }): JSX.Element {
  const ref = useRef<HTMLAudioElement>(null);
  const boost = useRef<Boost | null>(null);
  const boosted = gain > 1;
  useEffect(() => {
    const audio = ref.current;
    if (audio === null) return;
    audio.srcObject = stream;
    audio.play().catch(() => undefined);
    return () => {
      audio.srcObject = null;
    };
  }, [stream]);
  useEffect(() => {
    if (!boosted) return;
    try {
      boost.current = new Boost(stream);
    } catch {
      // Without Web Audio it stays as loud as it was sent.
      return;
    }
    return () => {
      boost.current?.close();
      boost.current = null;
    };
  }, [stream, boosted]);
  useEffect(() => {
    const audio = ref.current;
    if (audio === null) return;
    // The element goes on playing, silent: Chromium gives a remote sound to Web Audio only while an element has it too.
    audio.muted = boost.current !== null;
    audio.volume = Math.min(1, gain);
    boost.current?.set(gain);
  }, [stream, gain]);
  useEffect(() => {
    const audio = ref.current;
    if (audio === null || output === null) return;
    // An output that is gone leaves the sound where it is.
    if ("setSinkId" in audio) audio.setSinkId(output).catch(() => undefined);
    boost.current?.playOn(output);
  }, [output, boosted]);
  return <audio ref={ref} autoPlay />;
}
