/** The studio from the first page to the last: invitation, green room, room, goodbye. */

import { effect, signal } from "@preact/signals";
import type { Signal } from "@preact/signals";

import { Gateway } from "../api/gateway";
import { Room } from "../room";
import type { Quality, RoomView } from "../room";
import { forgetInvitation } from "../token";
import type { Invitation } from "../token";
import { Broadcast } from "./broadcast";
import { Inputs } from "./inputs";
import { report, warn } from "./toasts";

/** Round trip and loss are looked at this often: fast enough to notice, slow enough to read. */
const QUALITY_EVERY_MS = 2000;

export class Studio {
  readonly invitation: Invitation;
  readonly gateway: Gateway;
  readonly inputs = new Inputs();
  readonly view: Signal<RoomView>;
  readonly quality: Signal<Quality> = signal({ roundTripMs: null, loss: null });
  /** Present for hosts once they are inside. */
  readonly broadcast: Signal<Broadcast | null> = signal(null);
  /** Playback volume by participant, 0 to 1; who is not in it is heard as loud as they are. */
  readonly volumes = signal<ReadonlyMap<string, number>>(new Map());

  private readonly room: Room;
  private undo: (() => void)[] = [];

  constructor(invitation: Invitation) {
    this.invitation = invitation;
    this.gateway = new Gateway(invitation.token);
    const url = new URL("/media-relay", window.location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.room = new Room({ url: url.href, token: invitation.token });
    this.view = signal(this.room.view);
  }

  get mayPlay(): boolean {
    return this.invitation.claims.role !== "viewer";
  }

  join(): void {
    this.leaveQuietly();
    this.undo = [
      this.room.subscribe((view) => {
        this.view.value = view;
        if (view.phase.name === "inside") this.welcome(view);
      }),
      this.room.onTrouble((message) => warn(message)),
      effect(() => this.room.setTrack("microphone", this.inputs.microphone.track.value)),
      effect(() => this.room.setTrack("camera", this.inputs.camera.track.value)),
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

  setVolume(participant: string, volume: number): void {
    this.volumes.value = new Map(this.volumes.value).set(participant, volume);
  }

  private welcome(view: RoomView): void {
    const runs = view.self?.role === "host" || view.self?.role === "admin";
    if (!runs || view.room === null || this.broadcast.value !== null) return;
    const broadcast = new Broadcast(this.gateway, view.room);
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
