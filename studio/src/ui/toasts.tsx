/** Messages at the edge of the page. */

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { dismiss, toasts } from "../state/toasts";
import { Check, Close, Warning } from "./icons";

export function Toasts(): JSX.Element {
  const ref = useRef<HTMLDivElement>(null);
  const count = toasts.value.length;
  useEffect(() => {
    const list = ref.current;
    if (list === null || !("showPopover" in list)) return;
    // Shown anew, the list stands above a dialog that was opened since.
    if (list.matches(":popover-open")) list.hidePopover();
    if (count > 0) list.showPopover();
  }, [count]);
  return (
    <div ref={ref} popover="manual" class="toasts" role="region" aria-label="Messages" aria-live="polite">
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
