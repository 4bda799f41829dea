import { afterEach, describe, expect, it, vi } from "vitest";

import { Gateway } from "../src/api/gateway";
import type { NewStream } from "../src/api/types";
import { Broadcast } from "../src/state/broadcast";

vi.mock("../src/canvas/visuals", () => ({ Visuals: class {} }));

/** A host's panel before a gateway that keeps what it is asked to create and then refuses. */
function panel(): { broadcast: Broadcast; asked: NewStream[] } {
  const asked: NewStream[] = [];
  vi.stubGlobal("fetch", (_: string, init: RequestInit) => {
    asked.push(JSON.parse(String(init.body)) as NewStream);
    return Promise.resolve(new Response("{}", { status: 409 }));
  });
  return { broadcast: new Broadcast(new Gateway("token"), "jam", "token"), asked };
}

afterEach(() => vi.unstubAllGlobals());

describe("a broadcast", () => {
  it("is composed unless the host lets a picture pass through, in whatever size", async () => {
    const { broadcast, asked } = panel();
    await broadcast.goLive();
    broadcast.passthrough.value = true;
    await broadcast.goLive();
    broadcast.tier.value = "720p30";
    await broadcast.goLive();
    broadcast.passthrough.value = false;
    await broadcast.goLive();
    expect(asked.map((each) => each.programme)).toEqual([
      {},
      { passthrough: "auto" },
      { tier: "720p30", passthrough: "auto" },
      { tier: "720p30" },
    ]);
  });
});
