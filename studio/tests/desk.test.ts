import { describe, expect, it } from "vitest";

import type { Alignment, Musician, StreamChange, StreamSnapshot } from "../src/api/types";
import { Desk } from "../src/state/desk";
import { words } from "../src/ui/alignment";
import { dbAt, positionOf } from "../src/ui/mixer";

const ada: Musician = { participant: "par_a", name: "Ada", gain_db: 0, muted: false, solo: false, pan: 0, delay_ms: 0, alignment: null, heard: true };
const stream = {
  mix: { master_gain_db: 0, normalise: false, leader: null, proposed_leader: null, musicians: [ada] },
  layout: { kind: "grid", large: null, small: null, corner: "bottom_right", tiles: [], pictures: [] },
} as unknown as StreamSnapshot;

/** A gateway that answers when the test says so. */
function slow(): { sent: StreamChange[]; answer(): Promise<void>; desk: Desk } {
  const sent: StreamChange[] = [];
  let answered: () => void = () => undefined;
  const send = (change: StreamChange): Promise<void> => {
    sent.push(change);
    return new Promise((done) => (answered = done));
  };
  const desk = new Desk(send, () => Promise.resolve());
  const answer = async (): Promise<void> => {
    answered();
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
  };
  return { sent, answer, desk };
}

describe("the desk", () => {
  it("shows at once what a hand changes, and tells it in as few messages as the gateway takes", async () => {
    const { sent, answer, desk } = slow();
    desk.turn("par_a", { gain_db: -1 });
    for (let db = -2; db >= -30; db -= 1) desk.turn("par_a", { gain_db: db });
    desk.turn("par_a", { pan: 0.5 });
    desk.turnMaster({ normalise: true });
    expect(desk.musician(ada)).toMatchObject({ gain_db: -30, pan: 0.5, muted: false });
    expect(desk.master(stream)).toEqual({ master_gain_db: 0, normalise: true });
    await answer();
    expect(sent).toEqual([
      { mix: { musicians: [{ participant: "par_a", gain_db: -1 }] } },
      { mix: { normalise: true, musicians: [{ participant: "par_a", gain_db: -30, pan: 0.5 }] } },
    ]);
    expect(desk.musician(ada).gain_db).toBe(-30);
    await answer();
    expect(desk.musician(ada)).toEqual(ada);
    expect(sent).toHaveLength(2);
  });

  it("shows at once whom the others follow, and tells nobody as an empty name", async () => {
    const { sent, answer, desk } = slow();
    const led = { ...stream, mix: { ...stream.mix, leader: { participant: "par_a", name: "Ada", present: true } } };
    expect([desk.leader(stream), desk.leader(led)]).toEqual(["", "par_a"]);
    desk.follow("");
    desk.turnMaster({ normalise: true });
    expect([desk.leader(led), desk.master(led)]).toEqual(["", { master_gain_db: 0, normalise: true }]);
    await answer();
    expect(sent).toEqual([{ mix: { leader: "" } }, { mix: { normalise: true } }]);
  });

  it("says how each is aligned", () => {
    const said = (standing: Alignment["standing"], late_ms: number | null, added_ms: number): string =>
      words({ standing, late_ms, added_ms });
    const all = [said("leader", null, 0), said("leader", null, 145), said("unmeasured", null, 145), said("aligned", 60, 85)];
    expect([...all, said("aligned", 145, 0), said("out_of_reach", 700, 0)]).toEqual([
      "leads",
      "leads, waits 145 ms",
      "not measured yet",
      "60 ms late, waits 85 ms",
      "145 ms late, waits for nobody",
      "700 ms late: out of reach",
    ]);
  });

  it("tells what is dressed and retouched together", async () => {
    const { sent, answer, desk } = slow();
    desk.turnMaster({ master_gain_db: -1 });
    desk.dress({ captions: true });
    desk.dress({ title: "Tonight" });
    desk.retouch("par_a", { mirror: true });
    desk.retouch("par_a", { brightness: 0.2 });
    const look = { participant: "par_a", crop: [0, 0, 0, 0] as [number, number, number, number], mirror: false, brightness: 0, monochrome: false };
    expect(desk.look(look)).toMatchObject({ mirror: true, brightness: 0.2, monochrome: false });
    await answer();
    expect(sent[1]).toEqual({
      dressing: { captions: true, title: "Tonight", looks: [{ participant: "par_a", mirror: true, brightness: 0.2 }] },
    });
    await answer();
    expect(sent).toHaveLength(2);
  });

  it("replaces the layout as a whole", async () => {
    const { sent, answer, desk } = slow();
    const { pictures: _, ...grid } = stream.layout;
    desk.arrange({ ...grid, kind: "speaker" });
    expect(desk.layout(stream).kind).toBe("speaker");
    await answer();
    expect(sent).toEqual([{ layout: { ...grid, kind: "speaker" } }]);
    expect(desk.layout(stream).kind).toBe("grid");
  });
});

describe("a fader", () => {
  it("finds every level again, clicks into place at 0 dB and ends in silence", () => {
    for (const db of [-60, -30, -6, 0, 3.5, 12]) expect(dbAt(positionOf(db))).toBeCloseTo(db, 1);
    expect(dbAt(positionOf(0) + 0.004)).toBe(0);
    expect(dbAt(0)).toBe(-60);
    expect(positionOf(-20)).toBeLessThan(0.35);
  });
});
