/** What went wrong with a request, in words for people, and which form field it belongs to. */

export interface FieldError {
  pointer: string;
  detail: string;
}

export interface ProblemBody {
  title?: string;
  status?: number;
  code?: string;
  detail?: string;
  request_id?: string;
  errors?: FieldError[];
}

/** A request that did not succeed: an RFC 9457 problem of the gateway, or no answer at all (`status` 0). */
export class Problem extends Error {
  readonly status: number;
  readonly code: string;
  readonly requestId: string | null;
  readonly fields: readonly FieldError[];

  constructor(status: number, body: ProblemBody) {
    super(body.detail ?? body.title ?? fallback(status));
    this.name = "Problem";
    this.status = status;
    this.code = body.code ?? (status === 0 ? "unreachable" : "unknown");
    this.requestId = body.request_id ?? null;
    this.fields = body.errors ?? [];
  }

  /** Errors by form field: `/url` and `#/url` belong to the field `url`, `/programme/fps` to `programme.fps`. */
  byField(): Map<string, string> {
    const map = new Map<string, string>();
    for (const { pointer, detail } of this.fields) {
      const name = pointer
        .replace(/^#?\//, "")
        .split("/")
        .map((part) => part.replace(/~1/g, "/").replace(/~0/g, "~"))
        .join(".");
      if (!map.has(name)) map.set(name, detail);
    }
    return map;
  }

  /** What the person can do now; `null` when the message says it already. */
  get wayOut(): string | null {
    if (this.status === 0) return "Check your connection, then try again.";
    if (this.status === 401) return "Ask the host for a new invitation link.";
    if (this.status === 403) return "Ask the host for an invitation that allows this.";
    if (this.status === 429) return "Wait a moment, then try again.";
    if (this.status >= 500) {
      return this.requestId === null
        ? "Try again; if it stays, tell the operator."
        : `Try again; if it stays, give the operator this number: ${this.requestId}.`;
    }
    return null;
  }
}

/** The problem in a failed response, whatever its body is. */
export async function problemOf(response: Response): Promise<Problem> {
  const type = response.headers.get("content-type") ?? "";
  if (!/\bjson\b/.test(type)) return new Problem(response.status, {});
  try {
    const body: unknown = await response.json();
    return new Problem(response.status, typeof body === "object" && body !== null ? readBody(body) : {});
  } catch {
    return new Problem(response.status, {});
  }
}

function readBody(body: object): ProblemBody {
  const raw = body as Record<string, unknown>;
  const out: ProblemBody = {};
  for (const key of ["title", "code", "detail", "request_id"] as const) {
    const value = raw[key];
    if (typeof value === "string") out[key] = value;
  }
  if (Array.isArray(raw.errors)) {
    out.errors = raw.errors.filter(
      (each): each is FieldError =>
        typeof each === "object" && each !== null && typeof each.pointer === "string" && typeof each.detail === "string",
    );
  }
  return out;
}

function fallback(status: number): string {
  if (status === 0) return "The gateway cannot be reached.";
  if (status === 401) return "Your invitation is no longer valid.";
  if (status === 403) return "Your invitation does not allow this.";
  if (status === 404) return "This does not exist any more.";
  if (status === 429) return "That was too often.";
  if (status >= 500) return "The gateway has a problem of its own.";
  return `The gateway refused this (status ${status}).`;
}
