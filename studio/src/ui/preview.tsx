/** The broadcast as it leaves the encoder, small and at first without sound: who plays along would hear themselves a moment late. */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import type { Broadcast } from "../state/broadcast";
import type { Studio } from "../state/studio";
import { Picture } from "./media";

export function Preview({ studio, broadcast }: { studio: Studio; broadcast: Broadcast }): JSX.Element {
  // It takes the whole bitrate of the broadcast from the host's link, which the music needs more: so it is asked for.
  const [watching, setWatching] = useState(false);
  const [hearing, setHearing] = useState(false);
  useEffect(() => {
    studio.watchProgramme(watching);
    return () => studio.watchProgramme(false);
  }, [studio, watching]);
  const programme = studio.view.value.programme;
  const output = studio.inputs.output.value;
  const { width, height } = broadcast.stream.value?.programme ?? { width: 16, height: 9 };
  const watch = (): void => {
    setWatching(!watching);
    setHearing(false);
  };
  return (
    <section class="programme-preview" aria-label="Preview">
      {watching && (
        <figure style={{ aspectRatio: `${width} / ${height}` }} data-testid="programme-preview">
          {programme === null ? (
            <figcaption>The picture of the broadcast is on its way…</figcaption>
          ) : (
            <Picture source={programme} whole label="The broadcast as viewers see it" {...(hearing && { hearOn: output })} />
          )}
        </figure>
      )}
      {watching && (
        <>
          <button class="button" type="button" data-testid="hear-programme" aria-pressed={hearing} onClick={() => setHearing(!hearing)}>
            {hearing ? "Mute it" : "Hear what viewers hear"}
          </button>
          <p class="quiet">
            You hear the room already, and the broadcast comes a moment later: together they sound like an echo. Take headphones, and do not
            play along with it.
          </p>
        </>
      )}
      <button class="button" type="button" data-testid="watch-programme" aria-pressed={watching} onClick={watch}>
        {watching ? "Hide the picture" : "See what viewers see"}
      </button>
    </section>
  );
}
