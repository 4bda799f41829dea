/** One's own balance of the others: how loud each is heard here. Nobody else's balance and no broadcast change with it. */

import { signal } from "@preact/signals";

/** As loud as they send. */
export const UNITY = 1;

/** 6 dB more than they send: enough for a quiet voice, too little to hurt. */
export const LOUDEST = 2;

const KEY = "jamcast.mix.";

type Store = Pick<Storage, "getItem" | "setItem">;

/** Remembered by name, because identifiers change with every visit. */
export class Mix {
  private readonly gains = signal<ReadonlyMap<string, number>>(new Map());
  private readonly store: Store | null;
  private readonly key: string;

  constructor(room: string, store: Store | null) {
    this.store = store;
    this.key = KEY + room;
    this.gains.value = this.recall();
  }

  /** 0 to `LOUDEST`. */
  of(name: string): number {
    return this.gains.value.get(name) ?? UNITY;
  }

  set(name: string, gain: number): void {
    const gains = new Map(this.gains.value).set(name, Math.min(LOUDEST, Math.max(0, gain)));
    this.gains.value = gains;
    try {
      this.store?.setItem(this.key, JSON.stringify([...gains]));
    } catch {
      // A full or forbidden store costs the memory, not the balance.
    }
  }

  private recall(): ReadonlyMap<string, number> {
    try {
      const kept: unknown = JSON.parse(this.store?.getItem(this.key) ?? "[]");
      const pairs = Array.isArray(kept) ? kept.filter(isGain) : [];
      return new Map(pairs);
    } catch {
      return new Map();
    }
  }
}

function isGain(pair: unknown): pair is [string, number] {
  if (!Array.isArray(pair) || pair.length !== 2) return false;
  const [name, gain] = pair as unknown[];
  return typeof name === "string" && typeof gain === "number" && gain >= 0 && gain <= LOUDEST;
}

/** The browser's memory, if it lets us have it. */
export function localStore(): Store | null {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}
