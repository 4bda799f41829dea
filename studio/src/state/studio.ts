/** The studio from the first page to the last: invitation, green room, room, goodbye. */

import { effect, signal } from "@preact/signals";
import type { Signal } from "@preact/signals";

import { Gateway } from "../api/gateway";
import { Room } from "../room";
import type { Decisions, Level, Path, Quality, RoomView } from "../room";
import { forgetInvitation } from "../token";
import type { Invitation } from "../token";
import { Broadcast } from "./broadcast";
import { CameraSetting } from "./camera";
import { Inputs } from "./inputs";
import { localStore, Mix } from "./mix";
import { report, warn } from "./toasts";

/** Round trip and loss are looked at this often: fast enough to notice, slow enough to read. */
const QUALITY_EVERY_MS = 2000;

/** From here on somebody is heard rather than breathing. */
const SOUNDING_DBOV = -45;

export class Studio {
  readonly invitation: Invitation;
  readonly gateway: Gateway;
  readonly inputs = new Inputs();
  readonly view: Signal<RoomView>;
  readonly quality: Signal<Quality> = signal({ roundTripMs: null, loss: null });
  /** Present for hosts once they are inside. */
  readonly broadcast: Signal<Broadcast | null> = signal(null);
  /** How loud we hear each of the others. */
  readonly mix: Mix;
  /** How the camera is sent. */
  readonly cameraSetting = new CameraSetting(localStore());
  /** Tracks that sound now, as the gateway hears them. */
  readonly sounding: Signal<ReadonlySet<string>> = signal(new Set());

  /** How late everybody hears everybody else. */
  readonly delays: Signal<readonly Path[]> = signal([]);

  private readonly room: Room;
  private undo: (() => void)[] = [];

  constructor(invitation: Invitation) {
    this.invitation = invitation;
    this.mix = new Mix(invitation.claims.room ?? "", localStore());
    this.gateway = new Gateway(invitation.token);
    const url = new URL("/media-relay", window.location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.room = new Room({ url: url.href, token: invitation.token });
    this.view = signal(this.room.view);
  }

  get mayPlay(): boolean {
    return this.invitation.claims.role !== "viewer";
  }

  /** Whether we may decide about the others. */
  get isHost(): boolean {
    const role = this.view.value.self?.role;
    return role === "host" || role === "admin";
  }

  join(): void {
    this.leaveQuietly();
    this.room.setCameraForm(this.cameraSetting.form.value);
    this.undo = [
      this.room.subscribe((view) => {
        this.view.value = view;
        if (view.phase.name === "inside") this.welcome(view);
      }),
      this.room.onTrouble((message) => warn(message)),
      this.room.onLevels((levels) => this.hear(levels)),
      this.room.onDelays((paths) => (this.delays.value = paths)),
      effect(() => this.room.setTrack("microphone", this.inputs.microphone.track.value)),
      effect(() => this.room.setTrack("camera", this.inputs.camera.track.value)),
      effect(() => this.room.setTrack("screen", this.inputs.screen.value)),
      effect(() => this.room.setPaused("microphone", this.inputs.microphone.off.value)),
      this.every(QUALITY_EVERY_MS, () => this.measure()),
      this.on("online", () => this.room.retryNow()),
      this.on("pagehide", () => void this.room.leave()),
    ];
    this.room.join();
  }

  retryNow(): void {
    this.room.retryNow();
  }

  /** How large a picture is shown, so that it comes no larger than that. */
  setTile(producer: string, size: { width: number; height: number }): void {
    this.room.setTile(producer, size);
  }

  /** Whether we get the broadcast of this room as viewers see it. */
  watchProgramme(wanted: boolean): void {
    this.room.watchProgramme(wanted);
  }

  async leave(): Promise<void> {
    this.leaveQuietly();
    this.inputs.close();
    await this.room.leave();
    this.view.value = this.room.view;
  }

  /** Back to the green room with the same invitation. */
  returnToGreenRoom(): void {
    this.leaveQuietly();
    this.view.value = { ...this.room.view, phase: { name: "outside" } };
  }

  /** Forgets the invitation, so that a reload shows how to get another. */
  discardInvitation(): void {
    forgetInvitation();
    window.location.reload();
  }

  /** Asks the gateway for a host's decision; `doing` completes "Could not …". */
  decide(doing: string, carryOut: (decide: Decisions) => Promise<void>): void {
    carryOut(this.room.decide).catch((error: unknown) => report(doing, error));
  }

  shareScreen(): void {
    this.inputs.toggleScreen().catch((error: unknown) => report("share your screen", error));
  }

  private hear(levels: readonly Level[]): void {
    const loud = levels.filter(({ level }) => level >= SOUNDING_DBOV).map((each) => each.producer_id);
    const before = this.sounding.value;
    if (loud.length !== before.size || loud.some((id) => !before.has(id))) this.sounding.value = new Set(loud);
  }

  private welcome(view: RoomView): void {
    // The panel works with the token, which keeps its role whatever is decided in the room.
    const role = this.invitation.claims.role ?? view.self?.role;
    const runs = role === "host" || role === "admin";
    if (!runs || view.room === null || this.broadcast.value !== null) return;
    const broadcast = new Broadcast(this.gateway, view.room, this.invitation.token);
    this.broadcast.value = broadcast;
    broadcast.load().catch((error: unknown) => report("load the broadcast panel", error));
  }

  private measure(): void {
    if (this.view.value.phase.name !== "inside") return;
    this.room.quality().then(
      (quality) => (this.quality.value = quality),
      () => undefined,
    );
  }

  private leaveQuietly(): void {
    for (const undo of this.undo) undo();
    this.undo = [];
    this.delays.value = [];
    this.broadcast.value?.close();
    this.broadcast.value = null;
  }

  private every(ms: number, job: () => void): () => void {
    const timer = setInterval(job, ms);
    return () => clearInterval(timer);
  }

  private on(name: "online" | "pagehide", job: () => void): () => void {
    window.addEventListener(name, job);
    return () => window.removeEventListener(name, job);
  }
}
