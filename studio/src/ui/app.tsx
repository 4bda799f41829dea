/** Which page is shown. */

import type { JSX } from "preact";

import type { Studio } from "../state/studio";
import { GreenRoom } from "./green-room";
import { Goodbye, NoInvitation } from "./notices";
import { RoomPage } from "./room-page";
import { Toasts } from "./toasts";

export function App({ studio }: { studio: Studio | null }): JSX.Element {
  return (
    <>
      {studio === null ? <NoInvitation /> : <Page studio={studio} />}
      <Toasts />
    </>
  );
}

function Page({ studio }: { studio: Studio }): JSX.Element {
  const { phase, self } = studio.view.value;
  switch (phase.name) {
    case "outside":
      return <GreenRoom studio={studio} />;
    case "joining":
    case "inside":
    case "reconnecting":
      // Until the first join has succeeded there is no room to show.
      return self === null ? <GreenRoom studio={studio} /> : <RoomPage studio={studio} />;
    case "refused":
    case "removed":
    case "left":
      return <Goodbye studio={studio} phase={phase} />;
  }
}
