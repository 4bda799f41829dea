/** What a host may decide about one person. */

import type { JSX } from "preact";

import type { Decisions, Participant } from "../room";
import type { Studio } from "../state/studio";
import { Dialog } from "./dialog";

interface Decision {
  testid: string;
  label: string;
  help: string;
  grave?: boolean;
  /** Completes "Could not …". */
  doing: string;
  carryOut(decide: Decisions): Promise<void>;
}

export function PersonDialog(props: { studio: Studio; person: Participant; onClose(): void }): JSX.Element {
  const { studio, person, onClose } = props;
  return (
    <Dialog title={person.name} onClose={onClose} testid="person-dialog">
      <ul class="decisions">
        {decisions(studio, person).map((decision) => (
          <li key={decision.testid}>
            <button
              class={decision.grave ? "button decision grave" : "button decision"}
              type="button"
              data-testid={decision.testid}
              onClick={() => {
                studio.decide(decision.doing, decision.carryOut);
                onClose();
              }}
            >
              <span class="decision-label">{decision.label}</span>
              <span class="quiet">{decision.help}</span>
            </button>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}

function decisions(studio: Studio, person: Participant): Decision[] {
  const { id, name, role } = person;
  const spotlit = studio.view.value.state.spotlight === id;
  const list: Decision[] = [];
  if (role !== "viewer") {
    list.push(
      person.audio_muted
        ? {
            testid: "decide-mute",
            label: "Let them be heard again",
            help: "Their own mute button counts again.",
            doing: `unmute ${name}`,
            carryOut: (decide) => decide.mute(id, "audio", false),
          }
        : {
            testid: "decide-mute",
            label: "Mute for everybody",
            help: "They cannot unmute themselves.",
            doing: `mute ${name}`,
            carryOut: (decide) => decide.mute(id, "audio", true),
          },
      person.video_muted
        ? {
            testid: "decide-video",
            label: "Let them be seen again",
            help: "Their own camera button counts again.",
            doing: `show ${name}'s picture`,
            carryOut: (decide) => decide.mute(id, "video", false),
          }
        : {
            testid: "decide-video",
            label: "Hide camera and screen",
            help: "From the room and the broadcast.",
            doing: `hide ${name}'s picture`,
            carryOut: (decide) => decide.mute(id, "video", true),
          },
      person.isolated
        ? {
            testid: "decide-isolate",
            label: "Bring back into the room",
            help: "Everybody and the broadcast get them again.",
            doing: `bring ${name} back`,
            carryOut: (decide) => decide.isolate(id, false),
          }
        : {
            testid: "decide-isolate",
            label: "Isolate",
            help: "Only you see and hear them, the broadcast does not.",
            doing: `isolate ${name}`,
            carryOut: (decide) => decide.isolate(id, true),
          },
      {
        testid: "decide-spotlight",
        label: spotlit ? "Take out of the spotlight" : "Put in the spotlight",
        help: "Everybody sees who stands in it.",
        doing: "move the spotlight",
        carryOut: (decide) => decide.spotlight(spotlit ? null : id),
      },
    );
  }
  if (role === "musician") {
    list.push({
      testid: "decide-transfer",
      label: "Make host",
      help: "You become a musician of this room.",
      doing: `make ${name} host`,
      carryOut: (decide) => decide.transferHost(id),
    });
  }
  list.push(
    {
      testid: "decide-kick",
      label: "Remove",
      help: "They may come back with their invitation.",
      grave: true,
      doing: `remove ${name}`,
      carryOut: (decide) => decide.kick(id),
    },
    {
      testid: "decide-ban",
      label: "Ban",
      help: "Their invitation opens this room no more while it is open.",
      grave: true,
      doing: `ban ${name}`,
      carryOut: (decide) => decide.ban(id),
    },
  );
  return list;
}
