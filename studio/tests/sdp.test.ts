import { describe, expect, it } from "vitest";

import { withMusicMode, withSeparateStreams } from "../src/room/sdp";

const OFFER = [
  "v=0",
  "a=group:BUNDLE 0 1",
  "m=audio 9 UDP/TLS/RTP/SAVPF 111 63",
  "a=mid:0",
  "a=msid:band 1111",
  "a=rtpmap:111 opus/48000/2",
  "a=fmtp:111 minptime=10;useinbandfec=1",
  "a=rtpmap:63 red/48000/2",
  "a=fmtp:63 111/111",
  "a=ssrc:5 cname:x",
  "a=ssrc:5 msid:band 1111",
  "m=video 9 UDP/TLS/RTP/SAVPF 96",
  "a=mid:1",
  "a=msid:band 2222",
  "a=rtpmap:96 VP8/90000",
  "a=fmtp:96 max-fr=30",
  "",
].join("\r\n");

describe("music mode", () => {
  it("asks for stereo at a transparent rate and keeps what was there", () => {
    const line = withMusicMode(OFFER).match(/a=fmtp:111 (.*)/)?.[1]?.trim().split(";") ?? [];
    expect(line).toEqual(
      expect.arrayContaining(["minptime=10", "stereo=1", "sprop-stereo=1", "maxaveragebitrate=256000", "usedtx=0", "useinbandfec=0"]),
    );
    expect(line).not.toContain("useinbandfec=1");
  });

  it("touches no other codec and no other section", () => {
    const out = withMusicMode(OFFER);
    expect(out).toContain("a=fmtp:63 111/111\r\n");
    expect(out).toContain("a=fmtp:96 max-fr=30\r\n");
    expect(out.replace(/a=fmtp:111.*/, "")).toBe(OFFER.replace(/a=fmtp:111.*/, ""));
  });

  it("adds the line where there was none, once", () => {
    const bare = OFFER.replace(/a=fmtp:111.*\r\n/, "");
    const out = withMusicMode(bare);
    expect(out).toMatch(/a=rtpmap:111 opus\/48000\/2\r\na=fmtp:111 stereo=1/);
    expect(withMusicMode(out)).toBe(out);
  });

  it("survives an empty description", () => {
    expect(withMusicMode("")).toBe("\r\n");
  });
});

describe("separate streams", () => {
  it("leaves no stream shared by sound and picture", () => {
    const out = withSeparateStreams(OFFER);
    expect(out).toContain("a=msid:jam-0 1111\r\n");
    expect(out).toContain("a=ssrc:5 msid:jam-0 1111\r\n");
    expect(out).toContain("a=msid:jam-1 2222\r\n");
    expect(out).not.toContain("msid:band");
    expect(out).toContain("a=ssrc:5 cname:x\r\n");
  });

  it("leaves the broadcast together, so that its lips fit", () => {
    const out = withSeparateStreams(OFFER.replaceAll("msid:band ", "msid:programme "));
    expect(out.match(/msid:programme /g)).toHaveLength(3);
    expect(withSeparateStreams(OFFER.replaceAll("msid:band ", "msid:programmes "))).not.toContain("programmes");
  });
});
