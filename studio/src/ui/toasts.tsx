/** Messages at the edge of the page. */

import type { JSX } from "preact";

import { dismiss, toasts } from "../state/toasts";
import { Check, Close, Warning } from "./icons";

export function Toasts(): JSX.Element {
  return (
    <div class="toasts" role="region" aria-label="Messages" aria-live="polite">
      {toasts.value.map((toast) => (
        <div key={toast.id} class={`toast ${toast.tone}`} data-testid="toast">
          {toast.tone === "good" ? <Check /> : <Warning />}
          <p>
            {toast.text}
            {toast.wayOut !== null && <span class="way-out"> {toast.wayOut}</span>}
          </p>
          <button class="button icon-only ghost" type="button" aria-label="Dismiss" onClick={() => dismiss(toast.id)}>
            <Close />
          </button>
        </div>
      ))}
    </div>
  );
}
