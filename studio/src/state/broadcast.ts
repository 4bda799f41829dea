/** A host's broadcasts: where to, what is on air, and what was recorded. */

import { computed, signal } from "@preact/signals";
import type { Signal } from "@preact/signals";

import { fileName, save } from "../api/download";
import type { Gateway } from "../api/gateway";
import { Problem } from "../api/problem";
import { isRunning } from "../api/types";
import type { Destination, Meters, NewDestination, Platform, Recording, StreamChange, StreamSnapshot, Tier } from "../api/types";
import { retryDelay } from "../room/backoff";
import { Canvas } from "./canvas";
import { Desk } from "./desk";
import { report, tell, warn } from "./toasts";

/** What the gateway finishes after a stop (closing the file) takes a moment; the list is read again after this. */
const RECORDING_SETTLES_MS = 1500;

export class Broadcast {
  readonly platforms = signal<Platform[]>([]);
  readonly tiers = signal<Tier[]>([]);
  /** The tier of the next broadcast; `null` leaves it to what all destinations take. */
  readonly tier = signal<string | null>(null);
  readonly destinations: Signal<Destination[] | null> = signal(null);
  readonly recordings: Signal<Recording[] | null> = signal(null);
  readonly picked = signal<ReadonlySet<string>>(new Set());
  readonly title = signal("");
  readonly record = signal(true);
  readonly stems = signal(false);
  /** Whether anybody may watch the next broadcast over HLS. */
  readonly hls = signal(false);
  /** Whether one picture that is the whole of the next broadcast may go out as it comes. */
  readonly passthrough = signal(false);
  /** The room's running stream, or the one that ended last while this page was open. */
  readonly stream: Signal<StreamSnapshot | null> = signal(null);
  readonly running = computed(() => this.stream.value !== null && isRunning(this.stream.value.state));
  /** Whether the status on screen is fresh; false while its connection is being restored. */
  readonly watching = signal(true);
  readonly busy: Signal<"starting" | "stopping" | null> = signal(null);
  /** Errors of the *Go live* form by field. */
  readonly fieldErrors = signal<ReadonlyMap<string, string>>(new Map());

  /** How loud the running programme is; ten times a second. */
  readonly meters: Signal<Meters | null> = signal(null);
  readonly desk = new Desk((change) => this.direct(change));

  readonly canvas: Canvas;

  private readonly gateway: Gateway;
  private readonly room: string;
  private watch: AbortController | null = null;

  constructor(gateway: Gateway, room: string, token: string) {
    this.gateway = gateway;
    this.room = room;
    this.canvas = new Canvas(token, room, this.meters);
  }

  async load(): Promise<void> {
    await Promise.all([
      this.attempt("list the destinations", async () => {
        const destinations = await this.gateway.destinations();
        this.destinations.value = destinations;
        if (this.picked.value.size === 0) this.picked.value = new Set(destinations.map((each) => each.id));
      }),
      this.attempt("list the platforms", async () => {
        this.platforms.value = await this.gateway.platforms();
      }),
      this.attempt("list the picture sizes", async () => {
        this.tiers.value = await this.gateway.tiers();
      }),
      this.loadRecordings(),
      this.attempt("find out whether this room is on air", async () => {
        const running = (await this.gateway.streams()).find(
          (stream) => stream.room === this.room && isRunning(stream.state),
        );
        if (running !== undefined) this.follow(running);
      }),
    ]);
  }

  async loadRecordings(): Promise<void> {
    await this.attempt("list the recordings", async () => {
      const all = await this.gateway.recordings();
      this.recordings.value = all.filter((recording) => recording.room === this.room);
    });
  }

  pick(id: string, wanted: boolean): void {
    const next = new Set(this.picked.value);
    if (wanted) next.add(id);
    else next.delete(id);
    this.picked.value = next;
  }

  async goLive(): Promise<void> {
    if (this.busy.value !== null || this.running.value) return;
    this.busy.value = "starting";
    this.fieldErrors.value = new Map();
    try {
      const known = new Set(this.destinations.value?.map((each) => each.id));
      const stream = await this.gateway.createStream({
        room: this.room,
        title: this.title.value.trim() || this.room,
        destinations: [...this.picked.value].filter((id) => known.has(id)),
        record: this.record.value,
        stems: this.record.value && this.stems.value,
        hls: this.hls.value,
        programme: {
          ...(this.tier.value !== null && { tier: this.tier.value }),
          ...(this.passthrough.value && { passthrough: "auto" }),
        },
      });
      this.follow(await this.startOrForget(stream.id));
    } catch (error) {
      if (error instanceof Problem) this.fieldErrors.value = error.byField();
      report("go live", error);
    } finally {
      this.busy.value = null;
    }
  }

  async stop(): Promise<void> {
    const stream = this.stream.value;
    if (stream === null || this.busy.value !== null) return;
    this.busy.value = "stopping";
    try {
      this.take(await this.gateway.stopStream(stream.id));
    } catch (error) {
      report("stop the broadcast", error);
    } finally {
      this.busy.value = null;
    }
  }

  private async direct(change: StreamChange): Promise<void> {
    const stream = this.stream.value;
    if (stream === null || !this.running.value) return;
    await this.attempt("change the programme", async () => this.take(await this.gateway.directStream(stream.id, change)));
  }

  /** Sends the running broadcast to one more destination. */
  async join(destination: Destination): Promise<void> {
    const stream = this.stream.value;
    if (stream === null) return;
    await this.attempt(`send to ${destination.name}`, async () => {
      this.take(await this.gateway.addToStream(stream.id, destination.id));
      this.pick(destination.id, true);
    });
  }

  /** Sends the running broadcast to one destination less. */
  async leave(destination: { id: string; name: string }): Promise<void> {
    const stream = this.stream.value;
    if (stream === null) return;
    await this.attempt(`stop sending to ${destination.name}`, async () => {
      this.take(await this.gateway.removeFromStream(stream.id, destination.id));
      this.pick(destination.id, false);
    });
  }

  /** Throws the `Problem`, so that the form can show it beside its fields. */
  async addDestination(destination: NewDestination): Promise<void> {
    const added = await this.gateway.addDestination(destination);
    this.destinations.value = [...(this.destinations.value ?? []), added];
    this.pick(added.id, true);
    tell(`${added.name} is ready.`);
  }

  async replaceKey(destination: Destination, key: string): Promise<void> {
    await this.gateway.replaceKey(destination.id, key);
    await this.attempt("list the destinations", async () => {
      this.destinations.value = await this.gateway.destinations();
    });
    tell(`${destination.name} has a new key.`);
  }

  async setPrimary(destination: Destination, primary: boolean): Promise<void> {
    await this.attempt(`change ${destination.name}`, async () => {
      const changed = await this.gateway.setPrimary(destination.id, primary);
      this.destinations.value =
        this.destinations.value?.map((each) => (each.id === changed.id ? changed : each)) ?? null;
    });
  }

  async removeDestination(destination: Destination): Promise<void> {
    await this.attempt(`remove ${destination.name}`, async () => {
      await this.gateway.removeDestination(destination.id);
      this.destinations.value = this.destinations.value?.filter((each) => each.id !== destination.id) ?? null;
      this.pick(destination.id, false);
    });
  }

  /** A link for one more person, for this room only. */
  async invite(name: string): Promise<string> {
    return (await this.gateway.invite(this.room, { name, role: "musician" })).studio_url;
  }

  /** A picture of a recording that has one. */
  poster(recording: Recording, signal: AbortSignal): Promise<Blob | null> {
    return this.gateway.poster(recording, signal);
  }

  saveRecording(recording: Recording, progress: (share: number) => void): Promise<void> {
    const open = (): Promise<Response> => this.gateway.recordingFile(recording);
    return save(fileName(recording.title, recording.part), recording.size_bytes ?? 0, open, progress);
  }

  close(): void {
    this.canvas.stop();
    this.watch?.abort();
    this.watch = null;
  }

  /** A stream that cannot start would only lie about; the next *Go live* makes its own. */
  private async startOrForget(id: string): Promise<StreamSnapshot> {
    try {
      return await this.gateway.startStream(id);
    } catch (error) {
      await this.gateway.removeStream(id).catch(() => undefined);
      throw error;
    }
  }

  private follow(stream: StreamSnapshot): void {
    this.watch?.abort();
    const watch = new AbortController();
    this.watch = watch;
    this.stream.value = stream;
    void this.keepWatching(stream.id, watch.signal);
  }

  /** Reads the status until the stream is over; a lost connection is taken up again. */
  private async keepWatching(id: string, signal: AbortSignal): Promise<void> {
    let attempt = 0;
    while (!signal.aborted && this.running.value) {
      try {
        for await (const news of this.gateway.watchStream(id, signal)) {
          attempt = 0;
          this.watching.value = true;
          if ("snapshot" in news) this.take(news.snapshot);
          else this.meters.value = news.meters;
        }
      } catch (error) {
        if (signal.aborted) return;
        const final = error instanceof Problem && [401, 403, 404].includes(error.status);
        if (final) {
          this.watching.value = false;
          report("follow the broadcast", error);
          return;
        }
      }
      if (signal.aborted || !this.running.value) return;
      // One try at once needs no words; a status that stays away does.
      this.watching.value = attempt === 0;
      await new Promise((resolve) => setTimeout(resolve, retryDelay(attempt)));
      attempt += 1;
    }
  }

  private take(snapshot: StreamSnapshot): void {
    const before = this.stream.value;
    this.stream.value = snapshot;
    if (before === null || !isRunning(before.state) || isRunning(snapshot.state)) return;
    if (snapshot.state === "failed") warn(`The broadcast failed: ${snapshot.reason ?? "no reason was given"}`);
    else tell("The broadcast has ended.");
    if (snapshot.record) setTimeout(() => void this.loadRecordings(), RECORDING_SETTLES_MS);
  }

  private async attempt(doing: string, job: () => Promise<void>): Promise<void> {
    try {
      await job();
    } catch (error) {
      report(doing, error);
    }
  }
}
