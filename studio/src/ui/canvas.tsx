/** The host's canvas: a picture of the studio's own in the broadcast, with its switch and what becomes of it. */

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";

import type { Canvas, Throughput } from "../state/canvas";
import type { RelayState } from "../canvas/relay";
import { Switch, TextField } from "./fields";
import { Warning } from "./icons";

export function CanvasSection({ canvas }: { canvas: Canvas }): JSX.Element {
  const state = canvas.state.value;
  const sends = state !== null && state.name !== "refused";
  return (
    <section class="canvas" aria-label="Canvas" data-testid="canvas">
      <div class="section-head">
        <h3>Canvas</h3>
        <Switch
          label="In the broadcast"
          testid="canvas-switch"
          on={sends}
          onTurn={(on) => (on ? canvas.start() : canvas.stop())}
        />
      </div>
      {state === null && <p class="quiet">A title that moves with the music, as a picture of its own.</p>}
      {state?.name === "refused" && (
        <div class="trouble" role="alert">
          <Warning />
          <p>{state.message}</p>
        </div>
      )}
      {sends && (
        <>
          <Screen canvas={canvas} />
          <TextField
            label="Title"
            value={canvas.title.value}
            maxLength={80}
            testid="canvas-title"
            onValue={(title) => {
              canvas.title.value = title;
            }}
          />
          <p class="quiet" role="status" data-testid="canvas-status">
            {told(state, canvas.throughput.value)}
          </p>
        </>
      )}
    </section>
  );
}

function told(state: RelayState, { fps, kbps }: Throughput): string {
  switch (state.name) {
    case "connecting":
      return "Connecting…";
    case "unwatched":
      return "Ready: it is sent once you are live.";
    case "watched":
      return `Sent: ${fps} fps, ${kbps} kbit/s`;
    default:
      return "";
  }
}

/** The canvas itself, as it is drawn. */
function Screen({ canvas }: { canvas: Canvas }): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = canvas.visuals.canvas;
    element.setAttribute("aria-label", "The canvas as it is sent");
    place.current?.append(element);
    return () => element.remove();
  }, [canvas]);
  return <div class="canvas-screen" ref={place} />;
}
