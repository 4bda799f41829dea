/** Sending a running broadcast to one more destination, or to one less. */

import type { JSX } from "preact";

import type { StreamSnapshot } from "../api/types";
import type { Broadcast } from "../state/broadcast";
import { Plus } from "./icons";

export function ReachChange({ broadcast, stream }: { broadcast: Broadcast; stream: StreamSnapshot }): JSX.Element | null {
  const reached = new Set(stream.destinations.map((each) => each.id));
  const others = (broadcast.destinations.value ?? []).filter((each) => !reached.has(each.id));
  if (stream.state === "stopping" || (others.length === 0 && stream.destinations.length === 0)) return null;
  return (
    <details class="reach-change" data-testid="reach-change">
      <summary>Change destinations</summary>
      <div class="row">
        {others.map((each) => (
          <button
            key={each.id}
            class="button small"
            type="button"
            data-testid="destination-join"
            onClick={() => void broadcast.join(each)}
          >
            <Plus /> {each.name}
          </button>
        ))}
        {stream.destinations.map((each) => (
          <button
            key={each.id}
            class="button small ghost"
            type="button"
            data-testid="destination-leave"
            onClick={() => void broadcast.leave(each)}
          >
            Stop sending to {each.name}
          </button>
        ))}
      </div>
    </details>
  );
}
