/** The broadcast as it leaves the encoder, small and without sound: who plays along would hear themselves a moment late. */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import type { Broadcast } from "../state/broadcast";
import type { Studio } from "../state/studio";
import { Picture } from "./media";

export function Preview({ studio, broadcast }: { studio: Studio; broadcast: Broadcast }): JSX.Element {
  // It takes the whole bitrate of the broadcast from the host's link, which the music needs more: so it is asked for.
  const [watching, setWatching] = useState(false);
  useEffect(() => {
    studio.watchProgramme(watching);
    return () => studio.watchProgramme(false);
  }, [studio, watching]);
  const programme = studio.view.value.programme;
  const { width, height } = broadcast.stream.value?.programme ?? { width: 16, height: 9 };
  return (
    <section class="programme-preview" aria-label="Preview">
      {watching && (
        <figure style={{ aspectRatio: `${width} / ${height}` }} data-testid="programme-preview">
          {programme === null ? (
            <figcaption>The picture of the broadcast is on its way…</figcaption>
          ) : (
            <Picture source={programme} whole label="The broadcast as viewers see it" />
          )}
        </figure>
      )}
      <button class="button" type="button" data-testid="watch-programme" aria-pressed={watching} onClick={() => setWatching(!watching)}>
        {watching ? "Hide the picture" : "See what viewers see"}
      </button>
    </section>
  );
}
