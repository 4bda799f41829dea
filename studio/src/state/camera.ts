/** How the camera is sent, as its owner chose once; only what this browser can do is there to choose. */

import { signal } from "@preact/signals";
import type { Signal } from "@preact/signals";

import { canSendLayers } from "../room";
import type { CameraForm } from "../room";

const KEY = "jamcast.camera.form";

type Store = Pick<Storage, "getItem" | "setItem">;

export class CameraSetting {
  readonly form: Signal<CameraForm>;
  readonly choices: readonly { id: CameraForm; label: string }[];
  private readonly store: Store | null;

  constructor(store: Store | null, hasLayers = canSendLayers()) {
    this.store = store;
    const sizes = { id: "sizes" as const, label: "In up to three sizes (VP8): easy on the processor" };
    const layers = { id: "layers" as const, label: "In layers (VP9): easy on the uplink" };
    this.choices = hasLayers ? [sizes, layers] : [];
    this.form = signal(hasLayers && this.recall() === "layers" ? "layers" : "sizes");
  }

  choose(id: string): void {
    this.form.value = id === "layers" ? "layers" : "sizes";
    try {
      this.store?.setItem(KEY, this.form.value);
    } catch {
      // A full or forbidden store costs the memory, not the choice.
    }
  }

  private recall(): string | null {
    try {
      return this.store?.getItem(KEY) ?? null;
    } catch {
      return null;
    }
  }
}
