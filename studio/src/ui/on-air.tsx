/** Whether the world sees us, in one glance. */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import * as format from "../format";
import type { StreamSnapshot } from "../api/types";
import type { Broadcast } from "../state/broadcast";

/** The broadcast's length, counted on between two snapshots so that the seconds do not jump. */
export function useElapsed(stream: StreamSnapshot | null): number {
  const [since, setSince] = useState({ at: performance.now(), base: 0 });
  const [now, setNow] = useState(performance.now());
  useEffect(() => {
    setSince({ at: performance.now(), base: stream?.stats.duration_ms ?? 0 });
  }, [stream]);
  const counting = stream?.state === "live";
  useEffect(() => {
    if (!counting) return;
    const timer = setInterval(() => setNow(performance.now()), 250);
    return () => clearInterval(timer);
  }, [counting]);
  return counting ? since.base + Math.max(0, now - since.at) : (stream?.stats.duration_ms ?? 0);
}

export function OnAir({ broadcast }: { broadcast: Broadcast }): JSX.Element {
  const stream = broadcast.stream.value;
  const elapsed = useElapsed(stream);
  const reached = stream?.destinations.filter((each) => each.state === "live" || each.state === "publishing").length ?? 0;
  const total = stream?.destinations.length ?? 0;
  if (stream?.state === "live") {
    const trouble = total > 0 && reached < total;
    return (
      <span class={trouble ? "on-air live partly" : "on-air live"} data-testid="on-air" role="status">
        <span class="on-air-dot" aria-hidden="true" />
        <strong>On air</strong>
        <span class="numbers" aria-hidden="true">
          {format.duration(elapsed)}
        </span>
        {trouble && (
          <span class="on-air-reach">
            {reached} of {total}
          </span>
        )}
      </span>
    );
  }
  const words = stream?.state === "starting" ? "Starting…" : stream?.state === "stopping" ? "Stopping…" : "Off air";
  return (
    <span class={words === "Off air" ? "on-air" : "on-air changing"} data-testid="on-air" role="status">
      <span class="on-air-dot" aria-hidden="true" />
      {words}
    </span>
  );
}
