//! Tests against the clock count only while the machine keeps time: one that fails on a starved machine is begun anew.

use std::panic::AssertUnwindSafe;
use std::panic::resume_unwind;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;

const BEAT: Duration = Duration::from_millis(10);
/// A task that waited this long for the processor has seen the machine stand still: what it measures by the clock is not the code.
const STARVED: Duration = Duration::from_millis(100);
const ATTEMPTS: u32 = 3;

/// What `test` gives. It is begun anew when it panics while the machine stood still, twice at most; any other panic is its own.
pub(crate) async fn on_a_steady_machine<T, F: Future<Output = T>>(test: impl Fn() -> F) -> T {
    let mut attempt = 1;
    loop {
        let pulse = tokio::spawn(pulse(Instant::now()));
        let outcome = AssertUnwindSafe(test()).catch_unwind().await;
        // The last beat may be the late one.
        tokio::time::sleep(BEAT * 2).await;
        let starved = pulse.is_finished();
        pulse.abort();
        match outcome {
            Ok(value) => return value,
            Err(_) if starved && attempt < ATTEMPTS => attempt += 1,
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// Ends once a beat came too late.
async fn pulse(mut due: Instant) {
    while due.elapsed() < STARVED {
        due = Instant::now() + BEAT;
        tokio::time::sleep_until(due).await;
    }
}
