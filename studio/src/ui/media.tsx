/** Pictures and sound on the page. */

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";

/** A picture without sound; sound has its own element, so that neither waits for the other. */
export function Picture(props: { source: MediaStreamTrack | MediaStream; mirrored?: boolean; label: string }): JSX.Element {
  const ref = useRef<HTMLVideoElement>(null);
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
  return (
    <video
      ref={ref}
      class={props.mirrored ? "picture mirrored" : "picture"}
      autoPlay
      playsInline
      muted
      aria-label={props.label}
      disablePictureInPicture
    />
  );
}

export function Sound({ stream, volume, output }: { stream: MediaStream; volume: number; output: string | null }): JSX.Element {
  const ref = useRef<HTMLAudioElement>(null);
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
    if (ref.current !== null) ref.current.volume = volume;
  }, [volume]);
  useEffect(() => {
    const audio = ref.current;
    // An output that is gone leaves the sound where it is.
    if (audio !== null && output !== null && "setSinkId" in audio) audio.setSinkId(output).catch(() => undefined);
  }, [output]);
  return <audio ref={ref} autoPlay />;
}
