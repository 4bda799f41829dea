// Runs a command whose checks go by the clock; on a machine that stood still meanwhile a failure says nothing, and it runs anew.
//   steady.mjs COMMAND [ARGUMENT …]      exit code: that of the last run

import { spawn } from "node:child_process";

const BEAT_MS = 10;
// Two frames and a half, twice what the checks of lip-sync allow. Two browsers on two quiet cores made a beat 75 ms late.
const STARVED_MS = 80;
const ATTEMPTS = 3;

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

let outcome = { code: 1, latest: 0 };
for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
  outcome = await run(process.argv.slice(2));
  console.error(`steady: exit code ${outcome.code}; the machine's longest pause was ${Math.round(outcome.latest)} ms`);
  if (outcome.code === 0 || outcome.latest < STARVED_MS) break;
}
process.exit(outcome.code);
