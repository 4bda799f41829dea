/** Keeps our side of the gateway's rate limit (50 frames at once, 20 a second), so that joining a full room never trips it. */

/** Below the gateway's numbers, because it counts pongs too. */
const AT_ONCE = 40;
const INTERVAL_MS = 1000 / 15;

/** A token bucket kept as one moment: when it will be full again. */
export class Pace {
  private readonly now: () => number;
  private fullAt = 0;

  constructor(now: () => number = Date.now) {
    this.now = now;
  }

  /** Takes a place in the line and says how many milliseconds it is away. */
  take(): number {
    const now = this.now();
    this.fullAt = Math.max(this.fullAt, now) + INTERVAL_MS;
    return Math.max(0, this.fullAt - now - AT_ONCE * INTERVAL_MS);
  }
}
