/** What was recorded in this room, to take home. */

import { Fragment } from "preact";
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import type { Recording } from "../api/types";
import * as format from "../format";
import type { Broadcast } from "../state/broadcast";
import { report } from "../state/toasts";
import { Download, Film } from "./icons";

export function Recordings({ broadcast }: { broadcast: Broadcast }): JSX.Element {
  const recordings = broadcast.recordings.value;
  const programmes = recordings?.filter((recording) => recording.musician === null);
  return (
    <section class="recordings" aria-label="Recordings">
      <div class="section-head">
        <h3>Recordings</h3>
      </div>
      {recordings === null && <p class="quiet">Reading the list…</p>}
      {programmes?.length === 0 && <p class="quiet">None yet. What you record appears here when the broadcast ends.</p>}
      <ul class="recording-list">
        {programmes?.map((programme) => (
          <Fragment key={programme.id}>
            <RecordingItem broadcast={broadcast} recording={programme} />
            <Stems
              broadcast={broadcast}
              stems={recordings?.filter(
                (stem) => stem.musician !== null && stem.stream === programme.stream && stem.part === programme.part,
              )}
            />
          </Fragment>
        ))}
      </ul>
    </section>
  );
}

/** What each musician sent, in files that all begin with the programme. */
function Stems({ broadcast, stems = [] }: { broadcast: Broadcast; stems?: Recording[] | undefined }): JSX.Element | null {
  if (stems.length === 0) return null;
  return (
    <li data-testid="stems-of">
      <details>
        <summary>{format.count(stems.length, "separate track")}</summary>
        <ul class="recording-list">
          {stems.map((stem) => (
            <RecordingItem key={stem.id} broadcast={broadcast} recording={stem} />
          ))}
        </ul>
      </details>
    </li>
  );
}

/** The recording's picture, or a sign of a film while there is none. Pictures need the token, so they cannot be plain links. */
function Poster({ broadcast, recording }: { broadcast: Broadcast; recording: Recording }): JSX.Element {
  const [url, setUrl] = useState<string | null>(null);
  useEffect(() => {
    const leaving = new AbortController();
    let made: string | null = null;
    const show = (picture: Blob | null): void => {
      if (picture === null || leaving.signal.aborted) return;
      made = URL.createObjectURL(picture);
      setUrl(made);
    };
    // Without its picture a recording is as good.
    broadcast.poster(recording, leaving.signal).then(show, () => undefined);
    return () => {
      leaving.abort();
      if (made !== null) URL.revokeObjectURL(made);
    };
  }, [recording.poster_url]);
  return url === null ? <Film /> : <img class="poster" src={url} alt="" width="64" height="36" />;
}

function RecordingItem({ broadcast, recording }: { broadcast: Broadcast; recording: Recording }): JSX.Element {
  const [share, setShare] = useState<number | null>(null);
  const running = recording.ended_at === null && recording.failure === null;
  const save = async (): Promise<void> => {
    setShare(0);
    try {
      await broadcast.saveRecording(recording, setShare);
    } catch (error) {
      report("download the recording", error);
    } finally {
      setShare(null);
    }
  };
  const facts = [
    format.moment(recording.created_at),
    recording.duration_ms != null ? format.duration(recording.duration_ms) : null,
    recording.size_bytes ? format.bytes(recording.size_bytes) : null,
    running ? "being recorded" : null,
  ]
    .filter((fact) => fact !== null && fact !== "")
    // Facts may stand on lines of their own, but none is torn apart.
    .map((fact) => fact?.replaceAll(" ", "\u00a0"));
  return (
    <li class="recording" data-testid="recording">
      <Poster broadcast={broadcast} recording={recording} />
      <span class="pick-text">
        <span class="pick-name">
          {recording.musician === null ? recording.title : `${recording.musician} (${recording.media})`}
          {recording.musician === null && recording.part > 1 && <span class="quiet"> part {recording.part}</span>}
        </span>
        <span class="quiet numbers">{facts.join(" · ")}</span>
        {recording.failure !== null && <span class="bad-text">{recording.failure}</span>}
      </span>
      <button
        class="button small"
        type="button"
        data-testid="download"
        disabled={share !== null || running}
        aria-label={`Download ${recording.title}`}
        onClick={() => void save()}
      >
        <Download /> {share === null ? "Save" : `${Math.floor(share * 100)} %`}
      </button>
    </li>
  );
}
