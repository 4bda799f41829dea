// Runs a command whose checks go by the clock; on a machine that stood still meanwhile a failure says nothing, and it runs anew.
//   steady.mjs COMMAND [ARGUMENT …]      exit code: that of the last run
// BEGAN: when all the tests began, seconds of the epoch.

import { spawn } from "node:child_process";
import { setTimeout as rest } from "node:timers/promises";

const BEAT_MS = 10;
// Two frames and a half, twice what the checks of lip-sync allow. Two browsers on two quiet cores made a beat 75 ms late.
const STARVED_MS = 80;
const ATTEMPTS = 6;
/** A machine that is shared has busy spells of some minutes. */
const REST_MS = 60_000;
/** The tests may take 90 minutes; half an hour is enough for what comes behind the slowest of these commands. */
const NO_MORE_AFTER_S = 3600;

/** The command's exit code, and how late the latest beat came while it ran, ms. */
function run([command, ...words]) {
  return new Promise((resolve, reject) => {
    let latest = 0;
    let due = performance.now() + BEAT_MS;
    const pulse = setInterval(() => {
      const now = performance.now();
      latest = Math.max(latest, now - due);
      due = now + BEAT_MS;
    }, BEAT_MS);
    const child = spawn(command, words, { stdio: "inherit" });
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      clearInterval(pulse);
      resolve({ code: signal ? 1 : code, latest });
    });
  });
}

const began = Number(process.env.BEGAN ?? Date.now() / 1000);
let outcome = { code: 1, latest: 0 };
for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
  outcome = await run(process.argv.slice(2));
  console.error(`steady: exit code ${outcome.code}; the machine's longest pause was ${Math.round(outcome.latest)} ms`);
  const isLate = Date.now() / 1000 - began > NO_MORE_AFTER_S;
  if (outcome.code === 0 || outcome.latest < STARVED_MS || isLate || attempt === ATTEMPTS) break;
  await rest(REST_MS);
}
process.exit(outcome.code);
