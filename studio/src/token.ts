/** The invitation: a room token that came in the address bar's fragment and must not stay there. */

import type { RoomRole } from "./room";

const KEY = "jamcast.token";

export interface Invitation {
  token: string;
  /** What the token says about itself, for greeting only; the gateway alone decides what it allows. */
  claims: { room: string | null; name: string | null; role: RoomRole | null };
}

/** Takes the token out of the fragment into the tab's own memory, or finds it there after a reload. */
export function takeInvitation(
  location: Location = window.location,
  history: History = window.history,
  storage: Storage = window.sessionStorage,
): Invitation | null {
  const fresh = new URLSearchParams(location.hash.replace(/^#/, "")).get("token");
  if (fresh !== null) {
    storage.setItem(KEY, fresh);
    history.replaceState(null, "", location.pathname + location.search);
  }
  const token = fresh ?? storage.getItem(KEY);
  return token ? { token, claims: readClaims(token) } : null;
}

export function forgetInvitation(storage: Storage = window.sessionStorage): void {
  storage.removeItem(KEY);
}

function readClaims(token: string): Invitation["claims"] {
  const nothing = { room: null, name: null, role: null };
  try {
    const payload = token.split(".")[1] ?? "";
    const bytes = Uint8Array.from(atob(payload.replace(/-/g, "+").replace(/_/g, "/")), (char) => char.charCodeAt(0));
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof claims !== "object" || claims === null) return nothing;
    const text = (key: string): string | null => {
      const value = (claims as Record<string, unknown>)[key];
      return typeof value === "string" ? value : null;
    };
    const role = text("role");
    return { room: text("room"), name: text("name"), role: isRole(role) ? role : null };
  } catch {
    return nothing;
  }
}

function isRole(text: string | null): text is RoomRole {
  return text === "viewer" || text === "musician" || text === "host" || text === "admin";
}
