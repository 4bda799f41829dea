import { describe, expect, it } from "vitest";

import { Repeat } from "../src/room/repeat";

/** Milliseconds there and back. */
const USUAL = 40;

describe("sound that goes twice", () => {
  it("goes twice while some of it is lost, and once when none is any more", () => {
    const repeat = new Repeat();
    repeat.report(0, 0.01, USUAL);
    expect(repeat.isOn).toBe(false);
    for (let n = 1; n < 10; n += 1) repeat.report(n * 3000, 0.1, USUAL);
    expect(repeat.isOn).toBe(true);
    for (let n = 10; n < 40; n += 1) repeat.report(n * 3000, 0, USUAL);
    expect(repeat.isOn).toBe(false);
  });

  it("goes once where packets wait in a queue", () => {
    const full = new Repeat();
    full.report(0, 0, USUAL);
    for (let n = 1; n < 10; n += 1) full.report(n * 3000, 0.1, USUAL + 400);
    expect(full.isOn).toBe(false);
    full.report(30_000, 0.1, USUAL + 20);
    expect(full.isOn).toBe(true);
    const unknown = new Repeat();
    unknown.report(0, 0.1, undefined);
    expect(unknown.isOn).toBe(true);
  });

  it("leaves a way alone that it made worse", () => {
    const repeat = new Repeat();
    let on = 0;
    for (let n = 0; n < 20; n += 1) {
      repeat.report(n * 3000, repeat.isOn ? 0.4 : 0.1, USUAL);
      if (repeat.isOn) on += 1;
    }
    expect(on).toBe(4);
  });
});
