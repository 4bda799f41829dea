import { describe, expect, it } from "vitest";

import { fileName } from "../src/api/download";
import { Problem, problemOf } from "../src/api/problem";
import { serverEvents } from "../src/api/sse";
import * as format from "../src/format";
import { explain } from "../src/media/devices";
import { decibels, shareOfMeter } from "../src/media/level";
import { retryDelay } from "../src/room/backoff";
import { parseFrame } from "../src/room/protocol";
import { takeInvitation } from "../src/token";
import { bestColumns, tileWidth } from "../src/ui/layout";

describe("numbers", () => {
  it("durations", () => {
    expect([0, 7_900, 754_000, 3_723_000].map(format.duration)).toEqual(["0:00", "0:07", "12:34", "1:02:03"]);
    expect(format.duration(-5)).toBe("0:00");
  });

  it("rates and sizes", () => {
    expect(format.bitrate(640)).toBe("640 kbit/s");
    expect(format.bitrate(2671)).toBe("2.67 Mbit/s");
    expect([0, 999, 1000, 999_999, 1_034_000_000].map(format.bytes)).toEqual(["0 B", "999 B", "1.0 kB", "1.0 MB", "1.0 GB"]);
    expect(format.delay(0.4)).toBe("under 1 ms");
    expect(format.count(1, "musician")).toBe("1 musician");
    expect(format.count(0, "musician")).toBe("0 musicians");
  });

  it("initials, in any script", () => {
    expect(format.initials("Nina Simone-Okonkwo")).toBe("NS");
    expect(format.initials(" ada ")).toBe("A");
    expect(format.initials("")).toBe("");
    expect(format.initials("𝔄da")).toBe("𝔄");
  });

  it("file names without anything a system forbids", () => {
    expect(fileName("Friday: a/b\\c?", 1)).toBe("Friday abc.mp4");
    expect(fileName("///", 2)).toBe("recording (part 2).mp4");
  });

  it("levels", () => {
    expect(decibels(1)).toBe(0);
    expect(decibels(0)).toBe(-60);
    expect(shareOfMeter(-60)).toBe(0);
    expect(shareOfMeter(-30)).toBe(0.5);
    expect(shareOfMeter(6)).toBe(1);
  });

  it("back-off grows, ends, and is never in step", () => {
    expect([0, 1, 2, 9, 1000].map((n) => retryDelay(n, () => 1))).toEqual([500, 1000, 2000, 10_000, 10_000]);
    expect(retryDelay(2, () => 0)).toBe(1000);
  });
});

describe("tiles", () => {
  it("stand above each other on a phone and beside each other on a wide screen", () => {
    expect(bestColumns(366, 700, 2, 12)).toBe(1);
    expect(bestColumns(1100, 500, 2, 12)).toBe(2);
    expect(bestColumns(1000, 600, 4, 12)).toBe(2);
  });

  it("always fit", () => {
    for (const [width, height] of [[366, 640], [1000, 700], [1600, 300]] as const) {
      for (let n = 1; n <= 12; n += 1) {
        const columns = bestColumns(width, height, n, 12);
        const tile = tileWidth(width, height, n, 12);
        expect(columns * tile + (columns - 1) * 12).toBeLessThanOrEqual(width);
        const rows = Math.ceil(n / columns);
        expect((rows * tile * 9) / 16 + (rows - 1) * 12).toBeLessThanOrEqual(height);
      }
    }
  });
});

describe("problems", () => {
  const answer = (status: number, body: unknown, type = "application/problem+json"): Response =>
    new Response(typeof body === "string" ? body : JSON.stringify(body), { status, headers: { "content-type": type } });

  it("stand beside the field they belong to", async () => {
    const problem = await problemOf(
      answer(422, {
        title: "Invalid",
        detail: "Two fields are wrong.",
        code: "invalid",
        errors: [
          { pointer: "/url", detail: "must begin with rtmp" },
          { pointer: "#/programme/fps", detail: "at most 60" },
          { pointer: "/url", detail: "second" },
          { nonsense: true },
        ],
      }),
    );
    expect(problem.message).toBe("Two fields are wrong.");
    expect(Object.fromEntries(problem.byField())).toEqual({ url: "must begin with rtmp", "programme.fps": "at most 60" });
    expect(problem.wayOut).toBeNull();
  });

  it("always say something, whatever the body is", async () => {
    for (const [body, type] of [["<html>", "text/html"], ["{", "application/json"], ["null", "application/json"], ["[1]", "application/json"]]) {
      const problem = await problemOf(answer(502, body, type));
      expect(problem.message).toBe("The gateway has a problem of its own.");
      expect(problem.wayOut).toContain("Try again");
    }
  });

  it("show a way out", () => {
    expect(new Problem(0, {}).wayOut).toContain("connection");
    expect(new Problem(401, {}).wayOut).toContain("invitation");
    expect(new Problem(500, { request_id: "req_7" }).wayOut).toContain("req_7");
  });

  it("of devices name the reason and the remedy", () => {
    expect(explain("camera", new DOMException("", "NotAllowedError"))).toMatchObject({ reason: "denied" });
    expect(explain("microphone", new DOMException("", "NotFoundError")).message).toContain("Plug one in");
    expect(explain("camera", "?").reason).toBe("other");
  });
});

describe("server-sent events", () => {
  const read = async (chunks: (string | Uint8Array)[]): Promise<string[]> => {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const chunk of chunks) controller.enqueue(typeof chunk === "string" ? new TextEncoder().encode(chunk) : chunk);
        controller.close();
      },
    });
    const out: string[] = [];
    for await (const { event, data } of serverEvents(body)) out.push(`${event}=${data}`);
    return out;
  };

  it("are the same however the bytes are cut", async () => {
    const whole = ": hello\r\nevent: snapshot\r\ndata: {\"a\":\"é\"}\r\n\r\ndata: one\ndata:two\n\nid: 4\nevent: lost\n\n";
    const bytes = new TextEncoder().encode(whole);
    const expected = ['snapshot={"a":"é"}', "message=one\ntwo"];
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      expect(await read([bytes.slice(0, cut), bytes.slice(cut)])).toEqual(expected);
    }
  });

  it("leave out what was never finished", async () => {
    expect(await read(["data: half"])).toEqual([]);
  });
});

describe("frames of the signalling", () => {
  it("are told apart, and nonsense is nothing", () => {
    expect(parseFrame('{"id":1,"ok":true,"data":{}}')).toMatchObject({ reply: { id: 1 } });
    expect(parseFrame('{"method":"offer","data":{"offer_id":1,"sdp":""}}')).toMatchObject({ push: { method: "offer" } });
    for (const text of ["", "{", "null", "[]", '"x"', "{}", '{"id":"1","ok":true}']) expect(parseFrame(text)).toBeNull();
  });
});

describe("the invitation", () => {
  const storage = (): Storage => {
    const map = new Map<string, string>();
    return {
      getItem: (key: string) => map.get(key) ?? null,
      setItem: (key: string, value: string) => void map.set(key, value),
      removeItem: (key: string) => void map.delete(key),
    } as Storage;
  };
  const claims = btoa(
    String.fromCharCode(...new TextEncoder().encode(JSON.stringify({ room: "jam", name: "Zoë", role: "host" }))),
  ).replace(/=+$/, "");
  const at = (hash: string): Location => ({ hash, pathname: "/", search: "" }) as Location;

  it("leaves the address bar, survives a reload, and greets by name", () => {
    const shown: string[] = [];
    const history = { replaceState: (_: unknown, __: string, url: string) => shown.push(url) } as unknown as History;
    const tab = storage();
    const first = takeInvitation(at(`#token=h.${claims}.s`), history, tab);
    expect(first?.claims).toEqual({ room: "jam", name: "Zoë", role: "host" });
    expect(shown).toEqual(["/"]);
    expect(takeInvitation(at(""), history, tab)?.token).toBe(first?.token);
    expect(shown).toHaveLength(1);
  });

  it("may be opaque, and may be missing", () => {
    const history = { replaceState: () => undefined } as unknown as History;
    expect(takeInvitation(at("#token=opaque"), history, storage())?.claims).toEqual({ room: null, name: null, role: null });
    expect(takeInvitation(at(""), history, storage())).toBeNull();
  });
});
