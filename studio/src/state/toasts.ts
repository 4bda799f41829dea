/** Short messages at the edge of the page: good news goes by itself, bad news stays until somebody has read it. */

import { signal } from "@preact/signals";

import { Problem } from "../api/problem";
import { Refused } from "../room";

export interface Toast {
  id: number;
  tone: "good" | "bad";
  text: string;
  wayOut: string | null;
}

/** More than this at once is a wall nobody reads; the oldest goes. */
const MOST = 4;
const PASSING_MS = 5000;

export const toasts = signal<readonly Toast[]>([]);

let nextId = 1;

function show(tone: Toast["tone"], text: string, wayOut: string | null, passes = tone === "good"): void {
  const same = toasts.value.filter((toast) => toast.text !== text);
  const toast = { id: nextId++, tone, text, wayOut };
  toasts.value = [...same, toast].slice(-MOST);
  if (passes) setTimeout(() => dismiss(toast.id), PASSING_MS);
}

export function tell(text: string): void {
  show("good", text, null);
}

export function warn(text: string, wayOut: string | null = null): void {
  show("bad", text, wayOut);
}

/** Says what failed; `doing` completes "Could not …". */
export function report(doing: string, error: unknown): void {
  // What stands beside its field already need not stay here too.
  if (error instanceof Problem) show("bad", `Could not ${doing}: ${error.message}`, error.wayOut, error.fields.length > 0);
  else if (error instanceof Refused) warn(`Could not ${doing}: ${error.message}.`);
  else warn(`Could not ${doing}.`, "Try again; if it stays, reload the page.");
}

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}
