/** How late people hear each other: on each tile, and the table of the whole room. */

import type { JSX } from "preact";

import type { Participant, ParticipantInfo, Path } from "../room";
import type { Studio } from "../state/studio";
import { Dialog } from "./dialog";

const find = (paths: readonly Path[], from: string, to: string): Path | undefined =>
  paths.find((path) => path.from === from && path.to === to);

/** The delay between us and somebody, as we hear it; opens the table. */
export function DelayChip(props: { studio: Studio; person: Participant; onOpen(): void }): JSX.Element | null {
  const { studio, person, onOpen } = props;
  const self = studio.view.value.self;
  if (self === null) return null;
  const heard = find(studio.delays.value, person.id, self.id);
  const hears = find(studio.delays.value, self.id, person.id);
  const shown = heard ?? hears;
  if (shown === undefined) return null;
  const words = [
    heard !== undefined && `You hear ${person.name} ${sentence(heard, "your")}.`,
    hears !== undefined && `${person.name} hears you ${sentence(hears, "their")}.`,
  ].filter((text) => text !== false);
  return (
    <button
      class={`delay-chip ${shown.grade}`}
      type="button"
      data-testid="delay"
      data-grade={shown.grade}
      aria-label={`${words.join(" ")} Show everybody's delays`}
      title={words.join(" ")}
      onClick={onOpen}
    >
      <span class="delay-dot" aria-hidden="true" />
      {shown.delay_ms} ms
    </button>
  );
}

function sentence({ delay_ms, buffer_ms }: Path, whose: string): string {
  const held = buffer_ms === null || buffer_ms === 0 ? "" : `, ${buffer_ms} ms of it in ${whose} jitter buffer`;
  return `${delay_ms} ms late${held}`;
}

/** The whole table: a row for everybody who is heard, a column for everybody who hears. */
export function DelayTable({ studio, onClose }: { studio: Studio; onClose(): void }): JSX.Element {
  const { self, participants } = studio.view.value;
  const paths = studio.delays.value;
  const people: readonly ParticipantInfo[] = self === null ? participants : [self, ...participants];
  const heard = people.filter((person) => paths.some((path) => path.from === person.id));
  const name = (person: ParticipantInfo): string => (person.id === self?.id ? "You" : person.name);
  return (
    <Dialog title="Delays" onClose={onClose} testid="delays-dialog" wide>
      {heard.length === 0 ? (
        <p class="quiet">Nothing is measured yet. It takes a few seconds once two people are here and one of them plays.</p>
      ) : (
        // It scrolls by keys too.
        <div class="delay-scroll" role="region" aria-label="Delays of everybody" tabIndex={0}>
          <table class="delay-table" data-testid="delay-table">
            <caption class="sr-only">How many milliseconds late the person of each column hears the person of each row</caption>
            <thead>
              <tr>
                <td class="delay-corner">
                  plays ↓ <span>hears →</span>
                </td>
                {people.map((person) => (
                  <th key={person.id} scope="col" title={person.name}>
                    <span class="delay-name">{name(person)}</span>
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {heard.map((from) => (
                <tr key={from.id}>
                  <th scope="row" title={from.name}>
                    <span class="delay-name">{name(from)}</span>
                  </th>
                  {people.map((to) => (
                    <Cell key={to.id} path={find(paths, from.id, to.id)} from={name(from)} to={name(to)} same={from.id === to.id} />
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <ul class="delay-legend">
        <li class="green">
          <span class="delay-dot" aria-hidden="true" /> up to 43 ms: plays as on one stage
        </li>
        <li class="yellow">
          <span class="delay-dot" aria-hidden="true" /> up to 68 ms: slow pieces, or with a leader
        </li>
        <li class="red">
          <span class="delay-dot" aria-hidden="true" /> more: take turns
        </li>
      </ul>
      <p class="quiet">
        In milliseconds from one person's computer to the other's ears: both ways through the network, the gateway and the jitter
        buffer. Sound cards, and above all Bluetooth headphones, come on top.
      </p>
    </Dialog>
  );
}

function Cell(props: { path: Path | undefined; from: string; to: string; same: boolean }): JSX.Element {
  const { path, from, to, same } = props;
  if (path === undefined) return <td class="delay-none">{same ? "" : "–"}</td>;
  const verb = to === "You" ? "hear" : "hears";
  return (
    <td
      class={`delay-cell ${path.grade}`}
      data-from={path.from}
      data-to={path.to}
      title={`${to} ${verb} ${from === "You" ? "you" : from} ${sentence(path, to === "You" ? "your" : "their")}`}
    >
      <span class="delay-dot" aria-hidden="true" />
      {path.delay_ms}
      <span class="sr-only"> milliseconds, {path.grade}</span>
    </td>
  );
}
