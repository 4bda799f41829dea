/** What SDP says that the WebRTC API cannot: music-grade Opus, and sound that never waits for the picture. */

/**
 * RFC 7587 section 6.1: stereo both ways, a rate at which Opus is transparent for music, and no gaps in quiet passages.
 *
 * And no error correction in its own packets: Opus has that for speech alone, and codes whatever it is given as speech, at half the
 * rate, as soon as some of it is lost. What is lost comes again in redundant audio instead.
 */
const MUSIC: ReadonlyMap<string, string> = new Map([
  ["stereo", "1"],
  ["sprop-stereo", "1"],
  ["maxaveragebitrate", "256000"],
  ["usedtx", "0"],
  ["useinbandfec", "0"],
]);

/** Asks for music-mode Opus in every audio section, whichever payload type carries it. */
export function withMusicMode(sdp: string): string {
  return mapSections(sdp, (lines) => (lines[0]?.startsWith("m=audio") ? musicSection(lines) : lines));
}

/** The media stream in which the gateway sends the room's broadcast, picture and sound. */
const PROGRAMME = "programme";

/** The name of any other stream, behind what names it. */
const OTHERS = new RegExp(`^(a=(?:ssrc:\\d+ )?msid:)(?!${PROGRAMME} )\\S+`);

/**
 * Gives every section a media stream of its own, but for those of the room's broadcast.
 *
 * A browser keeps the tracks of one media stream in lip-sync by holding back the faster one. In a jam, sound must come as early
 * as it can, so no audio may share a stream with a video. The broadcast is only looked at, and its lips have to fit.
 */
export function withSeparateStreams(sdp: string): string {
  return mapSections(sdp, (lines) => {
    const mid = lines.find((line) => line.startsWith("a=mid:"))?.slice("a=mid:".length);
    if (mid === undefined) return lines;
    return lines.map((line) => line.replace(OTHERS, `$1jam-${mid}`));
  });
}

function musicSection(lines: string[]): string[] {
  const opus = new Set(
    lines.map((line) => /^a=rtpmap:(\d+) opus\/48000/i.exec(line)?.[1]).filter((pt): pt is string => pt !== undefined),
  );
  const out: string[] = [];
  const described = new Set(lines.map((line) => fmtpOf(line)?.payloadType).filter((pt) => pt !== undefined));
  for (const line of lines) {
    const fmtp = fmtpOf(line);
    if (fmtp !== undefined && opus.has(fmtp.payloadType)) {
      out.push(`a=fmtp:${fmtp.payloadType} ${mergeParameters(fmtp.parameters)}`);
      continue;
    }
    out.push(line);
    const mapped = /^a=rtpmap:(\d+) /.exec(line)?.[1];
    if (mapped !== undefined && opus.has(mapped) && !described.has(mapped)) {
      out.push(`a=fmtp:${mapped} ${mergeParameters("")}`);
    }
  }
  return out;
}

function fmtpOf(line: string): { payloadType: string; parameters: string } | undefined {
  const match = /^a=fmtp:(\d+) (.*)$/.exec(line);
  return match ? { payloadType: match[1] ?? "", parameters: match[2] ?? "" } : undefined;
}

function mergeParameters(text: string): string {
  const parameters = new Map<string, string>();
  for (const part of text.split(";")) {
    const [key, ...value] = part.trim().split("=");
    if (key) parameters.set(key, value.join("="));
  }
  for (const [key, value] of MUSIC) parameters.set(key, value);
  return [...parameters].map(([key, value]) => (value === "" ? key : `${key}=${value}`)).join(";");
}

function mapSections(sdp: string, change: (lines: string[]) => string[]): string {
  const sections: string[][] = [[]];
  for (const line of sdp.split(/\r?\n/)) {
    if (line === "") continue;
    if (line.startsWith("m=")) sections.push([]);
    sections[sections.length - 1]?.push(line);
  }
  return `${sections.flatMap(change).join("\r\n")}\r\n`;
}
