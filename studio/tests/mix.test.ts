import { describe, expect, it } from "vitest";

import { LOUDEST, Mix, UNITY } from "../src/state/mix";

function storage(): { getItem(key: string): string | null; setItem(key: string, value: string): void; kept: Map<string, string> } {
  const kept = new Map<string, string>();
  return { kept, getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => void kept.set(key, value) };
}

describe("one's own mix", () => {
  it("is remembered by name, for this room only", () => {
    const store = storage();
    new Mix("jam", store).set("Ada", 1.5);
    expect(new Mix("jam", store).of("Ada")).toBe(1.5);
    expect(new Mix("jam", store).of("Miles")).toBe(UNITY);
    expect(new Mix("other", store).of("Ada")).toBe(UNITY);
  });

  it("never gets louder than it may, nor less than silent", () => {
    const mix = new Mix("jam", null);
    mix.set("Ada", 9);
    expect(mix.of("Ada")).toBe(LOUDEST);
    mix.set("Ada", -1);
    expect(mix.of("Ada")).toBe(0);
  });

  it("takes nothing from a store that somebody else has written", () => {
    const store = storage();
    for (const text of ["{", "7", "null", '[["Ada",99],["Ben","loud"],[1,1],"x",["Cy",0.5]]']) {
      store.kept.set("jamcast.mix.jam", text);
      const mix = new Mix("jam", store);
      expect([mix.of("Ada"), mix.of("Ben")]).toEqual([UNITY, UNITY]);
    }
    expect(new Mix("jam", store).of("Cy")).toBe(0.5);
  });

  it("works without a store, and with one that refuses", () => {
    const refusing = { getItem: () => null, setItem: () => { throw new Error("full"); } };
    const mix = new Mix("jam", refusing);
    mix.set("Ada", 0.2);
    expect(mix.of("Ada")).toBe(0.2);
  });
});
