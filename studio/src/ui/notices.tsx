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
      if (phase.code in CLOSED_DOORS) return <ClosedDoor studio={studio} code={phase.code as ClosedDoor} />;
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

type ClosedDoor = "room_full" | "room_locked" | "banned";

/** The invitation is good, but the room takes nobody in. */
const CLOSED_DOORS: Record<ClosedDoor, { title: string; text: string; mayOpen: boolean }> = {
  room_full: {
    title: "The room is full",
    text: "Every place is taken. Your invitation is good: come in as soon as somebody leaves.",
    mayOpen: true,
  },
  room_locked: {
    title: "The room is locked",
    text: "The host lets nobody in just now. Your invitation is good: ask the host to unlock the room.",
    mayOpen: true,
  },
  banned: {
    title: "You may not come back to this room",
    text: "The host has banned you for as long as this room is open.",
    mayOpen: false,
  },
};

function ClosedDoor({ studio, code }: { studio: Studio; code: ClosedDoor }): JSX.Element {
  const { title, text, mayOpen } = CLOSED_DOORS[code];
  return (
    <Notice title={title}>
      <p data-testid={code}>{text}</p>
      <div class="row">
        {mayOpen && (
          <button class="button primary" type="button" data-testid="try-again" onClick={() => studio.join()}>
            Try again
          </button>
        )}
        <button class="button" type="button" data-testid="rejoin" onClick={() => studio.returnToGreenRoom()}>
          Back to the green room
        </button>
      </div>
    </Notice>
  );
}
