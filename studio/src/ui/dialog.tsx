/** A modal dialog: the browser's own, with its focus trap and Escape key. */

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";

import { Close } from "./icons";

export function Dialog(props: {
  title: string;
  onClose(): void;
  children: ComponentChildren;
  testid?: string;
  /** For what does not wrap. */
  wide?: boolean;
}): JSX.Element {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={ref}
      class={props.wide ? "dialog wide" : "dialog"}
      aria-labelledby={id}
      data-testid={props.testid}
      onClose={props.onClose}
      onClick={(event) => {
        // Only the backdrop is the dialog element itself; everything inside is the sheet.
        if (event.target === ref.current) props.onClose();
      }}
    >
      <div class="sheet">
        <header class="sheet-head">
          <h2 id={id}>{props.title}</h2>
          <button class="button icon-only ghost" type="button" aria-label="Close" onClick={props.onClose}>
            <Close />
          </button>
        </header>
        {props.children}
      </div>
    </dialog>
  );
}
