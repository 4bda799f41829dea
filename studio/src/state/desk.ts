/** The programme's mixing desk: what a hand on it changes is seen at once, and told to the gateway as often as it can take. */

import { signal } from "@preact/signals";

import type {
  Dressing,
  Layout,
  LayoutChange,
  Look,
  LookChange,
  Musician,
  MusicianChange,
  StreamChange,
  StreamSnapshot,
} from "../api/types";

/** Between two messages: smooth to the ear, because the mixer glides, and a small part of what a caller may ask in a minute. */
const PACE_MS = 250;

/** What the hand has changed and the gateway has not confirmed. */
interface Wish {
  master: { master_gain_db?: number; normalise?: boolean; leader?: string };
  musicians: ReadonlyMap<string, MusicianChange>;
  layout: LayoutChange | null;
  dressing: { captions?: boolean; title?: string; logo?: string; background?: string; backdrop?: string };
  looks: ReadonlyMap<string, LookChange>;
}

const NOTHING: Wish = { master: {}, musicians: new Map(), layout: null, dressing: {}, looks: new Map() };

type Send = (change: StreamChange) => Promise<void>;

export class Desk {
  private readonly flying = signal<Wish | null>(null);
  private readonly waiting = signal<Wish>(NOTHING);
  private readonly send: Send;
  private readonly pause: (ms: number) => Promise<void>;

  constructor(send: Send, pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))) {
    this.send = send;
    this.pause = pause;
  }

  /** A musician as the hand has it. */
  musician(told: Musician): Musician {
    return {
      ...told,
      ...this.flying.value?.musicians.get(told.participant),
      ...this.waiting.value.musicians.get(told.participant),
    };
  }

  master(stream: StreamSnapshot): { master_gain_db: number; normalise: boolean } {
    const { master_gain_db, normalise } = stream.mix;
    const { leader: _, ...wished } = { ...this.flying.value?.master, ...this.waiting.value.master };
    return { master_gain_db, normalise, ...wished };
  }

  /** Whom the others are to follow; empty for nobody. */
  leader(stream: StreamSnapshot): string {
    const wished = this.waiting.value.master.leader ?? this.flying.value?.master.leader;
    return wished ?? stream.mix.leader?.participant ?? "";
  }

  follow(leader: string): void {
    this.turnMaster({ leader });
  }

  layout(stream: StreamSnapshot): Layout {
    const wish = this.waiting.value.layout ?? this.flying.value?.layout;
    const { pictures, canvas } = stream.layout;
    return wish ? { ...wish, pictures, canvas } : stream.layout;
  }

  dressing(stream: StreamSnapshot): Dressing {
    const { logo, backdrop, ...wished } = { ...this.flying.value?.dressing, ...this.waiting.value.dressing };
    const told = stream.dressing;
    const there = (wish: string | undefined, is: boolean): boolean => (wish === undefined ? is : wish !== "");
    return { ...told, ...wished, logo: there(logo, told.logo), backdrop: there(backdrop, told.backdrop) };
  }

  look(told: Look): Look {
    return {
      ...told,
      ...this.flying.value?.looks.get(told.participant),
      ...this.waiting.value.looks.get(told.participant),
    };
  }

  dress(change: Wish["dressing"]): void {
    this.want({ ...this.waiting.value, dressing: { ...this.waiting.value.dressing, ...change } });
  }

  retouch(participant: string, change: LookChange): void {
    const looks = new Map(this.waiting.value.looks);
    looks.set(participant, { ...looks.get(participant), ...change });
    this.want({ ...this.waiting.value, looks });
  }

  turn(participant: string, change: MusicianChange): void {
    const musicians = new Map(this.waiting.value.musicians);
    musicians.set(participant, { ...musicians.get(participant), ...change });
    this.want({ ...this.waiting.value, musicians });
  }

  turnMaster(change: Wish["master"]): void {
    this.want({ ...this.waiting.value, master: { ...this.waiting.value.master, ...change } });
  }

  arrange(layout: LayoutChange): void {
    this.want({ ...this.waiting.value, layout });
  }

  private want(wish: Wish): void {
    this.waiting.value = wish;
    if (this.flying.value === null) void this.deliver();
  }

  /** One message at a time; what changes meanwhile goes with the next. */
  private async deliver(): Promise<void> {
    while (this.waiting.value !== NOTHING) {
      const wish = this.waiting.value;
      this.flying.value = wish;
      this.waiting.value = NOTHING;
      await this.send(message(wish));
      await this.pause(PACE_MS);
    }
    this.flying.value = null;
  }
}

function message({ master, musicians, layout, dressing, looks }: Wish): StreamChange {
  const change: StreamChange = {};
  if (Object.keys(master).length > 0 || musicians.size > 0) {
    change.mix = { ...master };
    if (musicians.size > 0) {
      change.mix.musicians = [...musicians].map(([participant, of]) => ({ participant, ...of }));
    }
  }
  if (layout !== null) change.layout = layout;
  if (Object.keys(dressing).length > 0 || looks.size > 0) {
    change.dressing = { ...dressing };
    if (looks.size > 0) change.dressing.looks = [...looks].map(([participant, of]) => ({ participant, ...of }));
  }
  return change;
}
