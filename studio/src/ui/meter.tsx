/** Level meters. They write CSS variables at the display's rate and never make a page render. */

import type { JSX, RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { CLIP_DB, LevelMeter, shareOfMeter } from "../media/level";

/** Held this long, a clipped moment can be seen by somebody who looks at their hands. */
const CLIP_HOLD_MS = 1500;

/** How fast a bar falls, in shares of its length per frame at 60 Hz; rising is immediate. */
const FALL = 0.025;

/** Keeps `--left`, `--right` and `--level` (0 to 1) and the attribute `data-clip` of an element true to a track. */
export function useLevel<E extends HTMLElement>(track: MediaStreamTrack | null, silent = false): RefObject<E | null> {
  const ref = useRef<E>(null);
  useEffect(() => {
    const element = ref.current;
    if (element === null || track === null || silent) return;
    let meter: LevelMeter;
    try {
      meter = new LevelMeter(track);
    } catch {
      // Without Web Audio there is sound all the same, only no meter.
      return;
    }
    let left = 0;
    let right = 0;
    let clippedAt = Number.NEGATIVE_INFINITY;
    let frame = requestAnimationFrame(function draw(now) {
      const [l, r] = meter.read();
      left = Math.max(shareOfMeter(l), left - FALL);
      right = Math.max(shareOfMeter(r), right - FALL);
      if (Math.max(l, r) >= CLIP_DB) clippedAt = now;
      element.style.setProperty("--left", left.toFixed(3));
      element.style.setProperty("--right", right.toFixed(3));
      element.style.setProperty("--level", Math.max(left, right).toFixed(3));
      element.toggleAttribute("data-clip", now - clippedAt < CLIP_HOLD_MS);
      frame = requestAnimationFrame(draw);
    });
    return () => {
      cancelAnimationFrame(frame);
      meter.close();
      for (const name of ["--left", "--right", "--level"]) element.style.removeProperty(name);
      element.removeAttribute("data-clip");
    };
  }, [track, silent]);
  return ref;
}

/** Two bars, left above right, with the last decibels in warning colours. */
export function StereoMeter({ track }: { track: MediaStreamTrack | null }): JSX.Element {
  const ref = useLevel<HTMLDivElement>(track);
  return (
    <div ref={ref} class="stereo-meter" data-testid="level-meter" aria-hidden="true">
      <span class="meter-name">L</span>
      <span class="meter-bar left" />
      <span class="meter-name">R</span>
      <span class="meter-bar right" />
      <span class="meter-scale">
        <i>−60</i>
        <i>−40</i>
        <i>−20</i>
        <i>−12</i>
        <i>0 dB</i>
      </span>
    </div>
  );
}
