/** The quiet pages: no invitation yet, and goodbye. */

import type { ComponentChildren, JSX } from "preact";

import type { Phase } from "../room";
import type { Studio } from "../state/studio";
import { Mark } from "./icons";

function Notice({ title, children }: { title: string; children: ComponentChildren }): JSX.Element {
  return (
    <main class="notice">
      <div class="notice-card">
        <p class="brand">
          <Mark /> Jamcast
        </p>
        <h1>{title}</h1>
        {children}
      </div>
    </main>
  );
}

export function NoInvitation(): JSX.Element {
  return (
    <Notice title="You need an invitation">
      <p>This studio opens with a personal link. It brings you straight to the room, with nothing to install.</p>
      <ul class="steps">
        <li>
          <strong>Playing with somebody?</strong> Ask the host to press <em>Invite</em> and send you the link.
        </li>
        <li>
          <strong>Hosting?</strong> The gateway prints your link when it starts; an operator can also make one with{" "}
          <code>POST /api/v1/rooms/…/tokens</code>.
        </li>
        <li>
          <strong>Had a link before?</strong> Open it again. Closing the tab forgets it, so that nobody else can use it.
        </li>
      </ul>
    </Notice>
  );
}

type Ending = Extract<Phase, { name: "refused" | "removed" | "left" }>;

export function Goodbye({ studio, phase }: { studio: Studio; phase: Ending }): JSX.Element {
  const again = (
    <button class="button primary" type="button" data-testid="rejoin" onClick={() => studio.returnToGreenRoom()}>
      Back to the green room
    </button>
  );
  switch (phase.name) {
    case "left":
      return (
        <Notice title="You left the room">
          <p>Your camera and microphone are off. The invitation still works in this tab.</p>
          {again}
        </Notice>
      );
    case "removed":
      return (
        <Notice title="You are out of the room">
          <p>The gateway says: {phase.reason || "the room was closed"}.</p>
          {again}
        </Notice>
      );
    case "refused":
      return (
        <Notice title="This invitation does not open the room">
          <p>{phase.message}</p>
          <p class="quiet">Invitations end after a while. The host can send you a fresh one.</p>
          <div class="row">
            {again}
            <button class="button" type="button" onClick={() => studio.discardInvitation()}>
              Forget this invitation
            </button>
          </div>
        </Notice>
      );
  }
}
