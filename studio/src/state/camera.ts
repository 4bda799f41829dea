/** How the camera is sent, as its owner chose once; only what this browser can do is there to choose. */

import { signal } from "@preact/signals";
import type { Signal } from "@preact/signals";

import { canSend } from "../room";
import type { CameraForm } from "../room";

const KEY = "jamcast.camera.form";

const FORMS: readonly Choice[] = [
  { id: "sizes", label: "VP8: easy on the computer" },
  { id: "layers", label: "VP9: for a slow uplink" },
  { id: "layers-av1", label: "AV1: for a very slow uplink" },
];

interface Choice {
  id: CameraForm;
  label: string;
}

type Store = Pick<Storage, "getItem" | "setItem">;

export class CameraSetting {
  readonly form: Signal<CameraForm>;
  /** None where there is but one. */
  readonly choices: readonly Choice[];
  private readonly forms: readonly Choice[];
  private readonly store: Store | null;

  constructor(store: Store | null, can: (form: CameraForm) => boolean = canSend) {
    this.store = store;
    this.forms = FORMS.filter(({ id }) => can(id));
    this.choices = this.forms.length > 1 ? this.forms : [];
    this.form = signal(this.known(this.recall()));
  }

  choose(id: string): void {
    this.form.value = this.known(id);
    try {
      this.store?.setItem(KEY, this.form.value);
    } catch {
      // A full or forbidden store costs the memory, not the choice.
    }
  }

  private known(id: string | null): CameraForm {
    return this.forms.find((form) => form.id === id)?.id ?? "sizes";
  }

  private recall(): string | null {
    try {
      return this.store?.getItem(KEY) ?? null;
    } catch {
      return null;
    }
  }
}
