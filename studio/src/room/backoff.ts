/** How long to wait before trying again: quickly at first, patiently later, never in step with everybody else. */

const FIRST_MS = 500;
const LONGEST_MS = 10_000;

/** Milliseconds before attempt number `attempt` (0 is the first retry); `random` is in 0..1. */
export function retryDelay(attempt: number, random: () => number = Math.random): number {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(ceiling / 2 + (ceiling / 2) * random());
}
