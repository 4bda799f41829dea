/** The person's own camera and microphone: which is open, which may be chosen, and what stands in the way. */

import { signal } from "@preact/signals";
import type { Signal } from "@preact/signals";

import { choices, explain, openBoth, openCamera, openMicrophone, openScreen } from "../media/devices";
import type { Device, DeviceChoice, DeviceTrouble } from "../media/devices";

export class Input {
  readonly device: Device;
  readonly track: Signal<MediaStreamTrack | null> = signal(null);
  readonly trouble: Signal<DeviceTrouble | null> = signal(null);
  readonly opening = signal(false);
  /** The device the person picked; `null` leaves it to the browser. */
  readonly chosen: Signal<string | null> = signal(null);
  /** Switched off by the person, to be switched on again. */
  readonly off = signal(false);
  private attempt = 0;

  constructor(device: Device) {
    this.device = device;
  }

  /** Opens the chosen device in place of the one that is open. */
  async open(deviceId: string | null = this.chosen.value): Promise<void> {
    const attempt = ++this.attempt;
    this.opening.value = true;
    this.trouble.value = null;
    try {
      const track = await (this.device === "microphone" ? openMicrophone(deviceId) : openCamera(deviceId));
      if (attempt !== this.attempt) {
        track.stop();
        return;
      }
      this.adopt(track);
    } catch (error) {
      if (attempt === this.attempt) this.trouble.value = explain(this.device, error);
    } finally {
      if (attempt === this.attempt) this.opening.value = false;
    }
  }

  /** Takes a track of this device in place of the one that is open. */
  adopt(track: MediaStreamTrack): void {
    this.track.value?.stop();
    track.onended = () => {
      if (this.track.value !== track) return;
      this.track.value = null;
      this.trouble.value = {
        reason: "missing",
        message: `The ${this.device} went away. Plug it in again, or choose another one.`,
      };
    };
    // The microphone is silenced in place, because coming back must take no time.
    if (this.device === "microphone") track.enabled = !this.off.value;
    this.chosen.value = track.getSettings().deviceId ?? this.chosen.value;
    this.trouble.value = null;
    this.track.value = track;
  }

  /** A muted microphone stays open and silent; a camera that is off is really off, with its light. */
  async toggle(): Promise<void> {
    const off = !this.off.value;
    this.off.value = off;
    if (this.device === "microphone") {
      if (this.track.value !== null) this.track.value.enabled = !off;
      else if (!off) await this.open();
    } else if (off) {
      this.close();
    } else {
      await this.open();
      if (this.track.value === null) this.off.value = true;
    }
  }

  close(): void {
    this.attempt += 1;
    this.opening.value = false;
    this.track.value?.stop();
    this.track.value = null;
  }
}

export class Inputs {
  readonly microphone = new Input("microphone");
  readonly camera = new Input("camera");
  readonly microphones = signal<DeviceChoice[]>([]);
  readonly cameras = signal<DeviceChoice[]>([]);
  readonly outputs = signal<DeviceChoice[]>([]);
  /** Where the others are heard; `null` is the system's own choice. */
  readonly output: Signal<string | null> = signal(null);

  /** What of the person's screen the others see; a second picture beside the camera. */
  readonly screen: Signal<MediaStreamTrack | null> = signal(null);

  /** Counts how often everything was closed. */
  private visit = 0;

  constructor() {
    navigator.mediaDevices?.addEventListener("devicechange", () => void this.refresh());
  }

  /** Asks once for both; when that fails, each by itself says what is wrong with it, and the other still works. */
  async openAll(): Promise<void> {
    const wantsCamera = this.camera.track.value === null && !this.camera.off.value;
    const wantsMicrophone = this.microphone.track.value === null;
    if (!(wantsCamera && wantsMicrophone && (await this.openTogether()))) {
      if (wantsMicrophone) await this.microphone.open();
      if (wantsCamera) await this.camera.open();
    }
    await this.refresh();
  }

  /** Begins or ends sharing; whether it began is told by `screen`. Fails when the browser cannot, not when the person declines. */
  async toggleScreen(): Promise<void> {
    if (this.screen.value !== null) return this.stopScreen();
    const visit = this.visit;
    try {
      const track = await openScreen();
      if (visit !== this.visit) return track.stop();
      // The browser has a button of its own to end it.
      track.onended = () => this.stopScreen();
      this.screen.value = track;
    } catch (error) {
      if (!(error instanceof DOMException && error.name === "NotAllowedError")) throw error;
    }
  }

  private stopScreen(): void {
    this.screen.value?.stop();
    this.screen.value = null;
  }

  async refresh(): Promise<void> {
    this.microphones.value = await choices("audioinput");
    this.cameras.value = await choices("videoinput");
    this.outputs.value = await choices("audiooutput");
  }

  close(): void {
    this.visit += 1;
    this.microphone.close();
    this.camera.close();
    this.stopScreen();
  }

  private async openTogether(): Promise<boolean> {
    const both = [this.microphone, this.camera];
    const visit = this.visit;
    for (const input of both) input.opening.value = true;
    try {
      const { microphone, camera } = await openBoth();
      if (visit !== this.visit) {
        // Everything was closed while the person was being asked.
        microphone.stop();
        camera.stop();
        return true;
      }
      this.microphone.adopt(microphone);
      this.camera.adopt(camera);
      return true;
    } catch {
      return false;
    } finally {
      for (const input of both) input.opening.value = false;
    }
  }
}
