/** The broadcast in time: whom the others follow, and how each of them is brought together with it. */

import type { JSX } from "preact";

import type { Alignment, Musician, StreamSnapshot } from "../api/types";
import type { Broadcast } from "../state/broadcast";
import { Select } from "./fields";

/** The gateway's word for nobody. */
const NOBODY = "";

/** Names whom the others follow. */
export function LeaderChoice({ broadcast, stream }: { broadcast: Broadcast; stream: StreamSnapshot }): JSX.Element {
  const { musicians, leader, proposed_leader } = stream.mix;
  const chosen = broadcast.desk.leader(stream);
  const choices = [
    { id: NOBODY, label: "Nobody: as it comes" },
    ...musicians.map(({ participant, name }) => ({
      id: participant,
      label: participant === proposed_leader ? `${name} (keeps the beat)` : name,
    })),
  ];
  const nameOf = (id: string): string => musicians.find(({ participant }) => participant === id)?.name ?? "them";
  const isAway = leader !== null && !leader.present;
  if (isAway) choices.push({ id: leader.participant, label: `${leader.name} (away)` });
  return (
    <div class="follow">
      <Select
        label="Everybody follows"
        choices={choices}
        chosen={chosen}
        onChoose={(participant) => broadcast.desk.follow(participant)}
        testid="leader"
      />
      {chosen !== NOBODY && (
        <p class="quiet">
          {isAway
            ? `${leader.name} is away; everybody stays as they are.`
            : `For the audience everybody is brought into time with ${nameOf(chosen)}. The room hears no difference.`}
        </p>
      )}
    </div>
  );
}

/** How a musician is aligned, in a few words; nothing while nobody leads. */
export function Standing({ musician }: { musician: Musician }): JSX.Element | null {
  const { alignment } = musician;
  if (alignment === null) return null;
  return (
    <p class={`standing ${alignment.standing}`} title={MEANING[alignment.standing]} data-testid="standing">
      {words(alignment)}
    </p>
  );
}

const MEANING: Record<Alignment["standing"], string> = {
  leader: "The others follow",
  aligned: "Heard together with the leader",
  unmeasured: "Does not hear the leader, or has not for long enough to be measured",
  out_of_reach: "So late that the others do not wait",
};

export function words({ standing, late_ms, added_ms }: Alignment): string {
  switch (standing) {
    case "leader":
      return added_ms > 0 ? `leads, waits ${added_ms} ms` : "leads";
    case "aligned":
      return added_ms > 0 ? `${late_ms ?? 0} ms late, waits ${added_ms} ms` : `${late_ms ?? 0} ms late, waits for nobody`;
    case "unmeasured":
      return "not measured yet";
    case "out_of_reach":
      return `${late_ms ?? 0} ms late: out of reach`;
  }
}
