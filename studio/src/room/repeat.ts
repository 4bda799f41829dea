/** Whether sound goes out twice (RED, RFC 2198): while the way to the gateway loses packets, unless it loses them because it is full. */

/** Smoothed loss from which sound goes twice, and under which it does not any more. */
const LOSSY = 0.02;
const CLEAN = 0.005;
/** Reports after which twice the sound must not have made the loss worse than this by half. */
const TRIAL_REPORTS = 4;
const WORSE = 1.5;
/** A way that was made worse is left alone for so long. */
const LEFT_ALONE_MS = 60_000;
/** A way on which packets take so much longer than they did at best has a queue: it loses them because it is full. */
const QUEUE_MS = 150;

type State =
  | { name: "once" }
  | { name: "twice"; before: number; reports: number }
  | { name: "left alone"; until: number };

export class Repeat {
  private loss = 0;
  private fastest = Infinity;
  private state: State = { name: "once" };

  get isOn(): boolean {
    return this.state.name === "twice";
  }

  /**
   * Takes the share of packets of sound lost since the last report, 0 to 1, and how long one takes there and back in ms, if that is
   * known. `now` is in ms.
   *
   * How much the browser believes to fit says nothing here: it believes less the more is lost, for whatever reason.
   */
  report(now: number, lost: number, roundTrip: number | undefined): void {
    this.loss += (lost - this.loss) / 3;
    this.fastest = Math.min(this.fastest, roundTrip ?? Infinity);
    const isFull = roundTrip !== undefined && roundTrip > this.fastest + QUEUE_MS;
    const { state } = this;
    if (state.name === "once") {
      const isLossy = Math.min(this.loss, lost) >= LOSSY;
      if (isLossy && !isFull) this.state = { name: "twice", before: Math.max(this.loss, lost), reports: 0 };
    } else if (state.name === "left alone") {
      if (now >= state.until) this.state = { name: "once" };
    } else if (state.reports < TRIAL_REPORTS) {
      const reports = state.reports + 1;
      const isWorse = reports === TRIAL_REPORTS && this.loss > state.before * WORSE + LOSSY;
      this.state = isWorse ? { name: "left alone", until: now + LEFT_ALONE_MS } : { ...state, reports };
    } else if (this.loss < CLEAN) {
      this.state = { name: "once" };
    }
  }
}
