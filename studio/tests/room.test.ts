import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { Room } from "../src/room";
import { FakePeer, FakeSocket, FakeStream, FakeTrack } from "./fakes";

const track = (kind: string): MediaStreamTrack => new FakeTrack(kind) as unknown as MediaStreamTrack;

const undecided = { audio_muted: false, video_muted: false, isolated: false };
const ada = { id: "par_ada", name: "Ada", role: "musician" as const, ...undecided };
const me = { id: "par_me", name: "Ella", role: "host" as const, ...undecided };
const sound = { id: "prd_1", participant: "par_ada", kind: "audio" as const, source: "microphone" as const, paused: false };
const picture = { id: "prd_2", participant: "par_ada", kind: "video" as const, source: "camera" as const, paused: false };

function joined(extra: object = {}): object {
  return {
    you: me,
    room: "jam",
    locked: false,
    spotlight: null,
    resume_token: "r1",
    resume_within_ms: 30_000,
    ice_servers: [],
    heartbeat_ms: 15_000,
    participants: [],
    producers: [],
    ...extra,
  };
}

/** A gateway that welcomes; single answers may be replaced. */
function welcome(socket: FakeSocket, extra: object = {}): void {
  let produced = 0;
  socket.answers.set("join", () => joined(extra));
  socket.answers.set("connect", (data) => (data.transport === "send" ? { sdp: "v=0\r\n" } : {}));
  socket.answers.set("produce", () => ({ producer_id: `prd_me_${(produced += 1)}` }));
  socket.answers.set("consume", ({ producer_id }) => ({
    consumer: { id: `con_${String(producer_id)}`, producer: producer_id, kind: "audio", mid: producer_id === "prd_1" ? "0" : "1" },
  }));
  for (const method of ["pause", "resume", "candidate", "restart_ice", "leave", "ping", "mute", "lock", "priority"]) socket.answers.set(method, () => ({}));
}

const settle = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0);

function makeRoom(): Room {
  return new Room({ url: "ws://gateway/media-relay", token: "t", openSocket: FakeSocket.open, random: () => 1 });
}

async function enter(room: Room, extra: object = {}): Promise<FakeSocket> {
  room.join();
  const socket = FakeSocket.last;
  welcome(socket, extra);
  socket.accept();
  await settle();
  return socket;
}

beforeEach(() => {
  vi.useFakeTimers();
  FakeSocket.all = [];
  FakePeer.all = [];
  vi.stubGlobal("RTCPeerConnection", FakePeer);
  vi.stubGlobal("MediaStream", FakeStream);
  vi.stubGlobal("RTCRtpReceiver", { getCapabilities: () => undefined });
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("joining", () => {
  it("presents the token first and then knows the room", async () => {
    const room = makeRoom();
    const socket = await enter(room, { participants: [ada, me] });
    expect(socket.sent[0]).toMatchObject({ method: "join", data: { token: "t" } });
    expect(room.view.phase.name).toBe("inside");
    expect(room.view.self).toEqual(me);
    expect(room.view.participants.map((each) => each.name)).toEqual(["Ada"]);
  });

  it("does not try a refused token again", async () => {
    const room = makeRoom();
    room.join();
    const refusal = new Error("the token has expired");
    refusal.name = "token_expired";
    FakeSocket.last.answers.set("join", () => refusal);
    FakeSocket.last.accept();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(room.view.phase).toEqual({ name: "refused", code: "token_expired", message: "the token has expired" });
    expect(FakeSocket.all).toHaveLength(1);
  });

  it("tries again when the gateway is only busy", async () => {
    const room = makeRoom();
    room.join();
    const busy = new Error("try again");
    busy.name = "overloaded";
    FakeSocket.last.answers.set("join", () => busy);
    FakeSocket.last.accept();
    await settle();
    expect(room.view.phase.name).toBe("reconnecting");
  });

  it("gives up on a gateway that never answers, then tries again", async () => {
    const room = makeRoom();
    room.join();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(room.view.phase.name).toBe("reconnecting");
    expect(FakeSocket.all[0]?.closed).toBe(true);
  });
});

describe("sending", () => {
  it("offers microphone and camera together and names each", async () => {
    const room = makeRoom();
    room.setTrack("microphone", track("audio"));
    room.setTrack("camera", track("video"));
    const socket = await enter(room);
    expect(socket.asked("connect")).toHaveLength(1);
    expect(socket.asked("produce")).toEqual([
      { mid: "0", source: "microphone" },
      { mid: "1", source: "camera" },
    ]);
  });

  it.each([
    [1280, 720, ["q", "h", "f"]],
    [640, 360, ["q", "f"]],
    [320, 180, ["f"]],
  ])("sends a camera of %i by %i in the sizes %j", async (width, height, rids) => {
    const room = makeRoom();
    room.setTrack("camera", new FakeTrack("video", { width, height }) as unknown as MediaStreamTrack);
    room.setTrack("screen", track("video"));
    await enter(room);
    const [camera, screen] = FakePeer.all.flatMap((pc) => pc.encodings);
    expect(camera?.map((each) => each.rid)).toEqual(rids);
    expect(screen).toHaveLength(1);
  });

  it.each([
    [1280, 720, "L3T3_KEY"],
    [640, 360, "L2T3_KEY"],
    [320, 180, "L1T3"],
  ])("sends a camera of %i by %i in layers %s where that was chosen", async (width, height, mode) => {
    const room = makeRoom();
    room.setCameraForm("layers");
    room.setTrack("camera", new FakeTrack("video", { width, height }) as unknown as MediaStreamTrack);
    room.setTrack("screen", track("video"));
    await enter(room);
    const [camera, screen] = FakePeer.all.flatMap((pc) => pc.encodings);
    expect(camera).toMatchObject([{ scalabilityMode: mode }]);
    expect(camera?.[0]?.rid).toBeUndefined();
    expect(screen).toHaveLength(1);
  });

  it("changes a device without a new offer, and pauses what is off", async () => {
    const room = makeRoom();
    room.setTrack("camera", track("video"));
    const socket = await enter(room);
    const other = track("video");
    room.setTrack("camera", other);
    await settle();
    expect(socket.asked("connect")).toHaveLength(1);
    expect(FakePeer.all.flatMap((pc) => pc.transceivers)[0]?.sender.track).toBe(other);
    room.setTrack("camera", null);
    await settle();
    expect(socket.asked("pause")).toEqual([{ producer_id: "prd_me_1" }]);
    room.setTrack("camera", other);
    await settle();
    expect(socket.asked("resume")).toEqual([{ producer_id: "prd_me_1" }]);
  });

  it("joins muted when it was muted before", async () => {
    const room = makeRoom();
    room.setTrack("microphone", track("audio"));
    room.setPaused("microphone", true);
    const socket = await enter(room);
    expect(socket.methods().slice(-2)).toEqual(["produce", "pause"]);
  });

  it("keeps candidates until the gateway knows the transport", async () => {
    const room = makeRoom();
    room.setTrack("microphone", track("audio"));
    room.join();
    const socket = FakeSocket.last;
    welcome(socket);
    socket.answers.delete("connect");
    socket.accept();
    await settle();
    const sender = FakePeer.all.find((pc) => pc.transceivers.length > 0);
    sender?.onicecandidate?.({ candidate: { candidate: "candidate:1 1 udp 1 127.0.0.1 9 typ host" } });
    await settle();
    expect(socket.asked("candidate")).toEqual([]);
    const connect = socket.sent.find((each) => each.method === "connect");
    socket.receive({ id: connect?.id, ok: true, data: { sdp: "v=0\r\n" } });
    await settle();
    expect(socket.asked("candidate")).toEqual([
      { transport: "send", candidate: "candidate:1 1 udp 1 127.0.0.1 9 typ host" },
    ]);
  });

  it("a viewer sends nothing", async () => {
    const room = makeRoom();
    room.setTrack("microphone", track("audio"));
    const socket = await enter(room, { you: { ...me, role: "viewer" } });
    expect(socket.methods()).toEqual(["join"]);
    expect(FakePeer.all).toHaveLength(1);
  });

  it("restarts ICE while the sending link stays down, and stops when it is back", async () => {
    const room = makeRoom();
    room.setTrack("microphone", track("audio"));
    await enter(room);
    const sender = FakePeer.all.find((pc) => pc.transceivers.length > 0);
    sender?.become("disconnected");
    expect(room.view.links.send).toBe("down");
    await vi.advanceTimersByTimeAsync(3_100);
    expect(sender?.offers.at(-1)).toEqual({ iceRestart: true });
    sender?.become("connected");
    const offers = sender?.offers.length;
    await vi.advanceTimersByTimeAsync(10_000);
    expect(sender?.offers).toHaveLength(offers ?? 0);
  });
});

describe("delays", () => {
  const path = { from: "par_ada", to: "par_me", delay_ms: 57, buffer_ms: 32, grade: "yellow" as const };

  it("tells the table as it comes, and not after we have left", async () => {
    const room = makeRoom();
    const tables: unknown[] = [];
    room.onDelays((paths) => tables.push(paths));
    const socket = await enter(room);
    socket.push({ method: "delays", data: { paths: [path] } });
    expect(tables).toEqual([[path]]);
    await room.leave();
    socket.push({ method: "delays", data: { paths: [] } });
    expect(tables).toHaveLength(1);
  });

  it("says every two seconds how long sound waited in its jitter buffers since the last time", async () => {
    const room = makeRoom();
    const socket = await enter(room, { participants: [ada], producers: [sound, picture] });
    socket.answers.set("stats", () => ({}));
    socket.push({ method: "offer", data: { offer_id: 1, sdp: "0:audio 1:video" } });
    await settle();
    const recv = FakePeer.all.at(-1);
    const tracks = recv?.transceivers.map((each) => each.receiver.track.id);
    const inbound = (kind: string, track: string | undefined, jitterBufferDelay: number, jitterBufferEmittedCount: number): object => ({
      type: "inbound-rtp", kind, trackIdentifier: track, jitterBufferDelay, jitterBufferEmittedCount,
    });
    recv?.stats.push(inbound("audio", tracks?.[0], 960, 48_000), inbound("video", tracks?.[1], 9, 30));
    await vi.advanceTimersByTimeAsync(2000);
    recv?.stats.splice(0, 1, inbound("audio", tracks?.[0], 960 + 0.04 * 96_000, 48_000 + 96_000));
    await vi.advanceTimersByTimeAsync(2000);
    // Nothing has come since: then there is nothing to say.
    await vi.advanceTimersByTimeAsync(2000);
    const told = (delay_ms: number): object => ({ jitter_buffers: [{ consumer_id: "con_prd_1", delay_ms }] });
    expect(socket.asked("stats")).toEqual([told(20), told(40)]);
  });
});

describe("hearing and seeing", () => {
  it("consumes what it finds and binds it when it is offered", async () => {
    const room = makeRoom();
    const socket = await enter(room, { participants: [ada], producers: [sound] });
    expect(socket.asked("consume")).toEqual([{ producer_id: "prd_1" }]);
    expect(room.view.participants[0]?.tracks[0]?.stream).toBeNull();
    socket.push({ method: "offer", data: { offer_id: 7, sdp: "0:audio" } });
    await settle();
    expect(socket.asked("connect")).toMatchObject([{ transport: "recv", offer_id: 7 }]);
    expect(room.view.participants[0]?.tracks[0]?.stream).not.toBeNull();
  });

  it("says how large a picture is shown, once it has a consumer and when that changes", async () => {
    const room = makeRoom();
    const socket = await enter(room, { participants: [ada], producers: [picture] });
    room.setTile(picture.id, { width: 640, height: 360 });
    room.setTile(picture.id, { width: 640, height: 360 });
    await settle();
    room.setTile(picture.id, { width: 320, height: 180 });
    await settle();
    expect(socket.asked("set_tile").map((data) => data.width)).toEqual([640, 320]);
    socket.push({ method: "producer_removed", data: { producer_id: picture.id } });
    room.setTile(picture.id, { width: 32, height: 18 });
    await settle();
    expect(socket.asked("set_tile")).toHaveLength(2);
  });

  it("binds a consumer whose offer came first", async () => {
    const room = makeRoom();
    const socket = await enter(room, { participants: [ada] });
    socket.answers.delete("consume");
    socket.push({ method: "producer_added", data: { producer: sound } });
    socket.push({ method: "offer", data: { offer_id: 1, sdp: "0:audio" } });
    await settle();
    const consume = socket.sent.find((each) => each.method === "consume");
    socket.receive({ id: consume?.id, ok: true, data: { consumer: { id: "con_1", producer: "prd_1", kind: "audio", mid: "0" } } });
    await settle();
    expect(room.view.participants[0]?.tracks[0]?.stream).not.toBeNull();
  });

  it("gives sound and picture streams of their own", async () => {
    const room = makeRoom();
    const socket = await enter(room, { participants: [ada], producers: [sound, picture] });
    socket.push({ method: "offer", data: { offer_id: 1, sdp: "0:audio 1:video" } });
    await settle();
    const [first, second] = room.view.participants[0]?.tracks ?? [];
    expect(first?.stream).not.toBe(second?.stream);
    expect((first?.stream as unknown as FakeStream).tracks).toHaveLength(1);
  });

  it("follows people and their tracks as they come, pause and go", async () => {
    const room = makeRoom();
    const socket = await enter(room);
    socket.push({ method: "participant_joined", data: { participant: ada } });
    socket.push({ method: "producer_added", data: { producer: sound } });
    socket.push({ method: "producer_paused", data: { producer_id: "prd_1" } });
    expect(room.view.participants[0]?.tracks[0]?.paused).toBe(true);
    socket.push({ method: "producer_resumed", data: { producer_id: "prd_1" } });
    expect(room.view.participants[0]?.tracks[0]?.paused).toBe(false);
    socket.push({ method: "participant_left", data: { participant_id: "par_ada" } });
    expect(room.view.participants).toEqual([]);
  });

  it("gets the programme while it is watched, and only then", async () => {
    const room = makeRoom();
    const programme = { ...picture, id: "prd_9", participant: "par_nobody", source: "programme" as const };
    const socket = await enter(room, { producers: [programme] });
    socket.answers.set("close", () => ({}));
    socket.push({ method: "offer", data: { offer_id: 1, sdp: "1:video" } });
    await settle();
    expect(socket.asked("consume")).toEqual([]);
    room.watchProgramme(true);
    await settle();
    expect(socket.asked("consume")).toEqual([{ producer_id: "prd_9" }]);
    expect(room.view.programme).not.toBeNull();
    expect(room.view.participants).toEqual([]);
    // Who changes their mind while it is asked for has it closed once it is there.
    room.watchProgramme(false);
    expect(room.view.programme).toBeNull();
    room.watchProgramme(true);
    room.watchProgramme(false);
    await settle();
    expect(socket.asked("close")).toEqual([{ consumer_id: "con_prd_9" }, { consumer_id: "con_prd_9" }]);
    expect(room.view.programme).toBeNull();
    // The next broadcast is another.
    room.watchProgramme(true);
    await settle();
    socket.push({ method: "producer_removed", data: { producer_id: "prd_9" } });
    expect(room.view.programme).toBeNull();
    socket.push({ method: "producer_added", data: { producer: { ...programme, id: "prd_10" } } });
    await settle();
    expect(socket.asked("consume").at(-1)).toEqual({ producer_id: "prd_10" });
  });

  it("hears the programme in the stream of its picture, which stays the same while it does", async () => {
    const room = makeRoom();
    const programme = { participant: "par_nobody", source: "programme" as const, paused: false };
    const producers = [
      { ...programme, id: "prd_8", kind: "video" as const },
      { ...programme, id: "prd_1", kind: "audio" as const },
    ];
    const socket = await enter(room, { producers });
    room.watchProgramme(true);
    await settle();
    expect(room.view.programme).toBeNull();
    socket.push({ method: "offer", data: { offer_id: 1, sdp: "0:audio" } });
    await settle();
    expect(room.view.programme).toBeNull();
    socket.push({ method: "offer", data: { offer_id: 2, sdp: "0:audio 1:video" } });
    await settle();
    const stream = room.view.programme as unknown as FakeStream;
    expect(stream.tracks.map((each) => (each as FakeTrack).kind)).toEqual(["video", "audio"]);
    socket.push({ method: "participant_joined", data: { participant: ada } });
    expect(room.view.programme).toBe(stream);
    socket.push({ method: "producer_removed", data: { producer_id: "prd_1" } });
    expect((room.view.programme as unknown as FakeStream).tracks).toHaveLength(1);
  });

  it("never consumes itself", async () => {
    const room = makeRoom();
    const socket = await enter(room);
    socket.push({ method: "producer_added", data: { producer: { ...sound, participant: "par_me" } } });
    await settle();
    expect(socket.asked("consume")).toEqual([]);
  });

  it("does not complain about a track that went while it was asked for", async () => {
    const room = makeRoom();
    const complaints: string[] = [];
    room.onTrouble((message) => complaints.push(message));
    const socket = await enter(room, { participants: [ada] });
    socket.answers.delete("consume");
    socket.push({ method: "producer_added", data: { producer: sound } });
    await settle();
    const consume = socket.sent.find((each) => each.method === "consume");
    socket.push({ method: "producer_removed", data: { producer_id: "prd_1" } });
    socket.receive({ id: consume?.id, ok: false, error: { code: "unknown_producer", message: "there is no such producer" } });
    await settle();
    expect(complaints).toEqual([]);
  });
});

describe("the gateway's rate limit", () => {
  it("is kept by joining a full room patiently, in order", async () => {
    const room = makeRoom();
    const people = Array.from({ length: 60 }, (_, n) => ({ ...ada, id: `par_${n}` }));
    const producers = people.map((person, n) => ({ ...sound, id: `prd_${n}`, participant: person.id }));
    const socket = await enter(room, { participants: people, producers });
    expect(socket.sent.length).toBeLessThanOrEqual(41);
    await vi.advanceTimersByTimeAsync(3_000);
    expect(socket.asked("consume").map((data) => data.producer_id)).toEqual(producers.map((each) => each.id));
  });
});

describe("what a host decides", () => {
  it("is asked for, and true when the gateway says so", async () => {
    const room = makeRoom();
    const socket = await enter(room, { participants: [ada] });
    await room.decide.mute("par_ada", "audio", true);
    expect(socket.asked("mute")).toEqual([{ participant_id: "par_ada", kind: "audio", muted: true }]);
    expect(room.view.participants[0]?.audio_muted).toBe(false);
    socket.push({ method: "participant_updated", data: { participant: { ...ada, audio_muted: true } } });
    expect(room.view.participants[0]?.audio_muted).toBe(true);
    socket.push({ method: "room_updated", data: { locked: true, spotlight: "par_ada" } });
    expect(room.view.state).toEqual({ locked: true, spotlight: "par_ada" });
  });

  it("holds for oneself too", async () => {
    const room = makeRoom();
    const socket = await enter(room);
    socket.push({ method: "participant_updated", data: { participant: { ...me, role: "musician", audio_muted: true } } });
    expect(room.view.self).toMatchObject({ role: "musician", audio_muted: true });
    expect(room.view.participants).toEqual([]);
  });

  it("says why the gateway refuses", async () => {
    const room = makeRoom();
    const socket = await enter(room);
    socket.answers.set("lock", () => Object.assign(new Error("only a host may do this"), { name: "role_too_low" }));
    await expect(room.decide.lock(true)).rejects.toMatchObject({ code: "role_too_low" });
  });
});

describe("levels", () => {
  it("reach who listens and redraw nothing", async () => {
    const room = makeRoom();
    const socket = await enter(room, { participants: [ada], producers: [sound] });
    const heard: unknown[] = [];
    let views = 0;
    room.onLevels((levels) => heard.push(levels));
    room.subscribe(() => (views += 1));
    socket.push({ method: "levels", data: { levels: [{ producer_id: "prd_1", level: -12 }] } });
    expect(heard).toEqual([[{ producer_id: "prd_1", level: -12 }]]);
    expect(views).toBe(0);
  });
});

describe("a broken socket", () => {
  const consumer = { id: "con_prd_1", producer: "prd_1", kind: "audio", mid: "0" };
  const microphone = { id: "prd_me_1", participant: "par_me", kind: "audio", source: "microphone", paused: false };

  async function inside(): Promise<{ room: Room; first: FakeSocket; peers: number }> {
    const room = makeRoom();
    room.setTrack("microphone", track("audio"));
    const first = await enter(room, { participants: [ada], producers: [sound] });
    first.push({ method: "offer", data: { offer_id: 1, sdp: "0:audio" } });
    await settle();
    return { room, first, peers: FakePeer.all.length };
  }

  async function comeBack(extra: object): Promise<FakeSocket> {
    await vi.advanceTimersByTimeAsync(500);
    welcome(FakeSocket.last, extra);
    FakeSocket.last.accept();
    await settle();
    return FakeSocket.last;
  }

  it("leaves picture and sound as they are, and is mended with the resume token", async () => {
    const { room, first, peers } = await inside();
    const stream = room.view.participants[0]?.tracks[0]?.stream;
    first.drop();
    expect(room.view.participants[0]?.tracks[0]?.stream).toBe(stream);
    expect(room.view.links.signalling).toBe("down");
    const kept = { send: true, recv: true, producers: [microphone], consumers: [consumer] };
    const second = await comeBack({ participants: [ada], producers: [sound], resume_token: "r2", kept });
    expect(second.sent[0]).toMatchObject({ method: "join", data: { token: "t", resume_token: "r1" } });
    expect(room.view.phase.name).toBe("inside");
    expect(room.view.participants[0]?.tracks[0]?.stream).toBe(stream);
    expect(FakePeer.all).toHaveLength(peers);
    expect(second.methods()).toEqual(["join"]);
    second.drop();
    await vi.advanceTimersByTimeAsync(500);
    FakeSocket.last.accept();
    await settle();
    expect(FakeSocket.last.sent[0]?.data).toMatchObject({ resume_token: "r2" });
  });

  it("is mended with what changed meanwhile, on both sides", async () => {
    const { room, first } = await inside();
    first.drop();
    room.setPaused("microphone", true);
    const kept = { send: true, recv: true, producers: [microphone], consumers: [] };
    const ben = { ...ada, id: "par_ben", name: "Ben" };
    const drums = { ...sound, id: "prd_9", participant: "par_ben" };
    const second = await comeBack({ participants: [ben], producers: [drums], kept });
    expect(room.view.participants.map((each) => each.name)).toEqual(["Ben"]);
    expect(second.asked("consume")).toEqual([{ producer_id: "prd_9" }]);
    expect(second.asked("pause")).toEqual([{ producer_id: "prd_me_1" }]);
    second.push({ method: "offer", data: { offer_id: 2, sdp: "0:audio 1:audio" } });
    await settle();
    expect(second.asked("connect")).toMatchObject([{ transport: "recv", offer_id: 2 }]);
  });

  it("begins a transport anew that the gateway has given up", async () => {
    const { first, peers } = await inside();
    first.drop();
    const second = await comeBack({ participants: [ada], kept: { send: false, recv: true, producers: [], consumers: [] } });
    expect(FakePeer.all).toHaveLength(peers + 1);
    expect(second.asked("produce")).toEqual([{ mid: "0", source: "microphone" }]);
  });

  it("makes an offer again that was under way", async () => {
    const { first } = await inside();
    const sender = FakePeer.all.find((pc) => pc.offers.length > 0);
    if (sender !== undefined) sender.signalingState = "have-local-offer";
    first.drop();
    const kept = { send: true, recv: true, producers: [microphone], consumers: [consumer] };
    const second = await comeBack({ participants: [ada], producers: [sound], kept });
    expect(second.asked("connect")).toMatchObject([{ transport: "send" }]);
  });

  it("that was away too long makes us somebody new", async () => {
    const { room, first } = await inside();
    const before = FakePeer.all.slice();
    first.drop();
    const second = await comeBack({ participants: [ada], producers: [sound] });
    expect(before.every((pc) => pc.connectionState === "closed")).toBe(true);
    expect(second.asked("produce")).toEqual([{ mid: "0", source: "microphone" }]);
    expect(second.asked("consume")).toEqual([{ producer_id: "prd_1" }]);
    expect(room.view.participants[0]?.tracks[0]?.stream).toBeNull();
  });
});

describe("a lost connection", () => {
  it("comes back by itself and sends again what was sent before", async () => {
    const room = makeRoom();
    room.setTrack("microphone", track("audio"));
    const first = await enter(room);
    first.drop();
    expect(room.view.phase).toMatchObject({ name: "reconnecting", attempt: 1 });
    await vi.advanceTimersByTimeAsync(500);
    expect(FakeSocket.all).toHaveLength(2);
    welcome(FakeSocket.last);
    FakeSocket.last.accept();
    await settle();
    expect(room.view.phase.name).toBe("inside");
    expect(FakeSocket.last.asked("produce")).toEqual([{ mid: "0", source: "microphone" }]);
  });

  it("waits longer after each failure, and not at all when asked", async () => {
    const room = makeRoom();
    (await enter(room)).drop();
    const waits: number[] = [];
    for (let n = 0; n < 3; n += 1) {
      const { phase } = room.view;
      if (phase.name !== "reconnecting") throw new Error(phase.name);
      waits.push(phase.retryAt - Date.now());
      await vi.advanceTimersByTimeAsync(phase.retryAt - Date.now());
      FakeSocket.last.drop();
      await settle();
    }
    expect(waits).toEqual([500, 1000, 2000]);
    const before = FakeSocket.all.length;
    room.retryNow();
    expect(FakeSocket.all).toHaveLength(before + 1);
    FakeSocket.last.drop();
    await settle();
    expect(room.view.phase.name).toBe("reconnecting");
  });

  it("is noticed when the gateway falls silent", async () => {
    const room = makeRoom();
    const socket = await enter(room);
    socket.answers.delete("ping");
    await vi.advanceTimersByTimeAsync(25_000);
    expect(room.view.phase.name).toBe("reconnecting");
    expect(socket.closed).toBe(true);
  });

  it("is no reason to return for somebody who was put out or left", async () => {
    const room = makeRoom();
    const socket = await enter(room);
    socket.push({ method: "removed", data: { reason: "The host closed the room." } });
    socket.drop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(room.view.phase).toEqual({ name: "removed", reason: "The host closed the room." });
    room.join();
    const again = FakeSocket.last;
    welcome(again);
    again.accept();
    await settle();
    await room.leave();
    again.drop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(room.view.phase.name).toBe("left");
    expect(again.methods()).toContain("leave");
    expect(FakePeer.all.every((pc) => pc.connectionState === "closed")).toBe(true);
  });
});
