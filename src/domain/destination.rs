//! When a destination dials, goes live, stalls, backs off and gives up: a machine over time and events.

use std::time::Duration;
use std::time::Instant;

/// After a loss on steady air attempts follow quickly for so long: most outages are shorter, and viewers wait.
const QUICK: Duration = Duration::from_secs(20);
/// The longest wait between them, before jitter.
const QUICK_RETRY: Duration = Duration::from_millis(400);
/// A quick attempt that is not through by then is begun anew: a lost SYN is repeated after a second at the earliest.
const QUICK_DIAL: Duration = Duration::from_millis(900);
/// Progress that pauses for longer does not count towards being live.
const PAUSE: Duration = Duration::from_secs(1);
/// Two thirds more after each failure: a minute of trouble costs about eight attempts.
const BACKOFF_FACTOR: f64 = 1.6;
/// Doubling stops here, so that somebody who fixes the key on the platform's page is on air within minutes.
const MAX_REJECTED_RETRY: Duration = Duration::from_secs(300);
/// Nobody's broadcast is given up before this, whatever the configuration says.
const MIN_PATIENCE: Duration = Duration::from_secs(600);

/// The times a destination lives by.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The first wait after a loss, before jitter shortens it.
    pub first_retry: Duration,
    /// The longest wait.
    pub max_retry: Duration,
    /// The first wait after a refusal.
    pub rejected_retry: Duration,
    /// Media must have been taken for this long before it counts as live.
    pub live_after: Duration,
    /// Time on air after which the next loss starts the waits from the first again.
    pub steady_after: Duration,
    /// Media waiting for this long without a byte taken is a stall.
    pub stalled_after: Duration,
    /// And for this long is a dead connection.
    pub dead_after: Duration,
    /// A connection that ends sooner after publishing began was refused in disguise.
    pub early_close: Duration,
    /// So many of those in a row are a rejection.
    pub early_closes: u32,
    /// Gives up after so long without being live; never if `None`. At least ten minutes.
    pub patience: Option<Duration>,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            first_retry: Duration::from_secs(1),
            max_retry: Duration::from_secs(30),
            rejected_retry: Duration::from_secs(30),
            live_after: Duration::from_secs(3),
            steady_after: Duration::from_secs(10),
            stalled_after: Duration::from_secs(2),
            dead_after: Duration::from_secs(5),
            // X.com closes about 4 s after publish when the key is wrong or the source has no broadcast.
            early_close: Duration::from_secs(5),
            early_closes: 3,
            patience: None,
        }
    }
}

/// What the machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// TCP and TLS stand.
    Dialled,
    /// The server accepted publishing.
    Accepted,
    /// Media waits to be taken.
    Offered,
    /// The socket took bytes of media; `drained` if none are left.
    Taken { drained: bool },
    /// The connection is gone, or could not be made.
    Lost(Loss),
    /// The time of [`Destination::poll_timeout`] has come.
    Timeout,
    /// The owner wants it to end.
    Stop,
}

/// How a connection ended. `reason` is a whole sentence for people without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Network, TLS, silence, garbage: worth another attempt soon.
    Broken { reason: String },
    /// The server or the policy refuses: another attempt soon would not help.
    Refused { reason: String },
    /// The stream key is in use, or wrong: one cannot tell from outside.
    NameTaken { reason: String },
    /// The server closed an accepted connection.
    Closed { reason: String },
}

/// What the machine wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Dial,
    /// Drop the connection; no [`Input::Lost`] is expected for it.
    HangUp,
}

/// Where a destination stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Connecting,
    Handshaking,
    Publishing(OnAir),
    Live(OnAir),
    Stalled(OnAir),
    Backoff { until: Instant, reason: String },
    Rejected { until: Instant, reason: String },
    Stopped { reason: Option<String> },
}

/// A connection that publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnAir {
    accepted_at: Instant,
    /// When the first media was taken.
    media_since: Option<Instant>,
    /// When media was taken last, and since when without a pause.
    progress: Option<Progress>,
    /// Since when media waits without a byte being taken.
    waiting_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    since: Instant,
    last: Instant,
}

/// One destination's decisions.
pub struct Destination {
    timing: Timing,
    state: State,
    command: Option<Command>,
    /// Losses since it was last steadily on air.
    losses: u32,
    early_closes: u32,
    rejections: u32,
    was_live: bool,
    /// Whether there is a second server to go to, whether it is the one in use, and whether the other one is worth a try at once.
    has_backup: bool,
    on_backup: bool,
    other_untried: bool,
    /// Until when attempts follow quickly.
    quick_until: Option<Instant>,
    /// Since when it is not live.
    troubled_since: Instant,
    random: u64,
}

impl Destination {
    /// Dials at once. `seed` is any random number; the jitter comes from it.
    pub const fn new(now: Instant, timing: Timing, seed: u64) -> Self {
        Self {
            timing,
            state: State::Connecting,
            command: Some(Command::Dial),
            losses: 0,
            early_closes: 0,
            rejections: 0,
            was_live: false,
            has_backup: false,
            on_backup: false,
            other_untried: true,
            quick_until: None,
            troubled_since: now,
            random: seed,
        }
    }

    /// With a second server, each attempt after a loss goes to the other one; one that works is stayed with.
    #[must_use]
    pub const fn with_backup(mut self) -> Self {
        self.has_backup = true;
        self
    }

    /// Whether the next or present attempt is for the second server.
    pub const fn on_backup(&self) -> bool {
        self.on_backup
    }

    pub const fn state(&self) -> &State {
        &self.state
    }

    pub const fn poll_output(&mut self) -> Option<Command> {
        self.command.take()
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Publishing(air) | State::Live(air) => {
                air.waiting_since.map(|since| since + self.timing.stalled_after)
            }
            State::Stalled(air) => air.waiting_since.map(|since| since + self.timing.dead_after),
            State::Backoff { until, .. } | State::Rejected { until, .. } => Some(*until),
            State::Connecting | State::Handshaking | State::Stopped { .. } => None,
        }
    }

    /// What people should know about the state.
    pub fn hint(&self) -> Option<String> {
        match &self.state {
            State::Backoff { reason, .. } | State::Rejected { reason, .. } => Some(reason.clone()),
            State::Stopped { reason } => reason.clone(),
            State::Stalled(_) => Some(
                "the server takes nothing; the upload may be too slow for this bitrate, or the platform has trouble"
                    .to_owned(),
            ),
            State::Connecting | State::Handshaking | State::Publishing(_) | State::Live(_) => None,
        }
    }

    pub fn handle(&mut self, now: Instant, input: Input) {
        match (&mut self.state, input) {
            (State::Stopped { .. }, _) => {}
            (_, Input::Stop) => {
                self.state = State::Stopped { reason: None };
                self.command = Some(Command::HangUp);
            }
            (State::Connecting, Input::Dialled) => self.state = State::Handshaking,
            (State::Handshaking, Input::Accepted) => {
                self.state = State::Publishing(OnAir {
                    accepted_at: now,
                    media_since: None,
                    progress: None,
                    waiting_since: None,
                });
            }
            (State::Publishing(air) | State::Live(air) | State::Stalled(air), Input::Offered) => {
                air.waiting_since.get_or_insert(now);
            }
            (State::Publishing(air) | State::Live(air) | State::Stalled(air), Input::Taken { drained }) => {
                air.waiting_since = (!drained).then_some(now);
                air.media_since.get_or_insert(now);
                let since = air.progress.filter(|seen| now - seen.last <= PAUSE).map_or(now, |seen| seen.since);
                air.progress = Some(Progress { since, last: now });
                let air = *air;
                self.settle(now, since, air);
            }
            (State::Backoff { .. } | State::Rejected { .. }, Input::Lost(_)) => {}
            (_, Input::Lost(loss)) => self.lose(now, loss),
            (_, Input::Timeout) => self.check_deadline(now),
            (_, Input::Dialled | Input::Accepted | Input::Offered | Input::Taken { .. }) => {}
        }
    }

    /// Publishing turns live when media has flowed long enough without a pause; so does a stall, through publishing.
    fn settle(&mut self, now: Instant, since: Instant, air: OnAir) {
        if matches!(self.state, State::Live(_)) || now - since >= self.timing.live_after {
            self.was_live = true;
            self.other_untried = true;
            self.troubled_since = now;
            self.state = State::Live(air);
        } else {
            self.state = State::Publishing(air);
        }
    }

    fn check_deadline(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return;
        }
        match &self.state {
            State::Publishing(air) | State::Live(air) => self.state = State::Stalled(*air),
            State::Stalled(_) => {
                self.command = Some(Command::HangUp);
                let seconds = self.timing.dead_after.as_secs();
                self.lose(now, Loss::Broken { reason: format!("the server took nothing for {seconds} s") });
            }
            State::Backoff { .. } | State::Rejected { .. } => {
                self.state = State::Connecting;
                self.command = Some(Command::Dial);
            }
            State::Connecting | State::Handshaking | State::Stopped { .. } => {}
        }
    }

    fn lose(&mut self, now: Instant, loss: Loss) {
        let air = match &self.state {
            State::Publishing(air) | State::Live(air) | State::Stalled(air) => Some(*air),
            State::Connecting
            | State::Handshaking
            | State::Backoff { .. }
            | State::Rejected { .. }
            | State::Stopped { .. } => None,
        };
        if air.and_then(|air| air.media_since).is_some_and(|since| now - since >= self.timing.steady_after) {
            self.losses = 0;
            self.rejections = 0;
            self.quick_until = Some(now + QUICK);
        }
        let closed_early = matches!(loss, Loss::Closed { .. })
            && air.is_some_and(|air| now - air.accepted_at < self.timing.early_close);
        if closed_early {
            self.early_closes += 1;
        } else if air.is_some() {
            self.early_closes = 0;
        }
        if self.gives_up(now, &loss) {
            return;
        }
        match loss {
            Loss::Closed { .. } if closed_early && self.early_closes >= self.timing.early_closes => self.reject(
                now,
                "the server accepts the stream and closes it within seconds; X.com does so when the stream key is wrong or its \
                 source is in use, so copy the key again and check the source on the platform's page"
                    .to_owned(),
            ),
            Loss::Refused { reason } => self.reject(now, reason),
            // After having been live, the server still holds the connection we lost; it lets go in a moment.
            Loss::NameTaken { reason } if !self.was_live => self.reject(now, reason),
            Loss::NameTaken { .. } => {
                self.back_off(now, "the server still holds the connection that was lost".to_owned());
            }
            Loss::Broken { reason } | Loss::Closed { reason } => self.back_off(now, reason),
        }
    }

    fn gives_up(&mut self, now: Instant, loss: &Loss) -> bool {
        let Some(patience) = self.timing.patience else { return false };
        let given_up = now - self.troubled_since >= patience.max(MIN_PATIENCE);
        if given_up {
            let (Loss::Broken { reason }
            | Loss::Refused { reason }
            | Loss::NameTaken { reason }
            | Loss::Closed { reason }) = loss;
            self.state = State::Stopped { reason: Some(format!("given up: {reason}")) };
        }
        given_up
    }

    /// How long an attempt to connect may take now; `None` leaves it to the dialler.
    pub fn dial_patience(&self, now: Instant) -> Option<Duration> {
        self.is_quick(now).then_some(QUICK_DIAL)
    }

    fn is_quick(&self, now: Instant) -> bool {
        self.quick_until.is_some_and(|until| now < until)
    }

    /// Turns to the other server, if there is one; whether to go there at once.
    const fn turn(&mut self) -> bool {
        if !self.has_backup {
            return false;
        }
        self.on_backup = !self.on_backup;
        std::mem::replace(&mut self.other_untried, false)
    }

    fn back_off(&mut self, now: Instant, reason: String) {
        if self.turn() || self.is_quick(now) {
            let wait = QUICK_RETRY.min(self.timing.first_retry).mul_f64(0.5 + 0.5 * self.chance());
            self.state = State::Backoff { until: now + wait, reason };
            return;
        }
        let wait = grow(self.timing.first_retry, BACKOFF_FACTOR, self.losses, self.timing.max_retry);
        self.losses = self.losses.saturating_add(1);
        // Half of the wait is certain, half is chance, so that a restarted server is not met by everybody at once.
        let wait = wait.mul_f64(0.5 + 0.5 * self.chance());
        self.state = State::Backoff { until: now + wait, reason };
    }

    fn reject(&mut self, now: Instant, reason: String) {
        if self.turn() {
            self.state = State::Backoff { until: now + QUICK_RETRY, reason };
            return;
        }
        let longest = MAX_REJECTED_RETRY.max(self.timing.rejected_retry);
        let wait = grow(self.timing.rejected_retry, 2.0, self.rejections, longest);
        self.rejections = self.rejections.saturating_add(1);
        // Chance only lengthens this wait: some platforms ban those who knock too often.
        let wait = wait.mul_f64(1.0 + 0.2 * self.chance());
        self.state = State::Rejected { until: now + wait, reason };
    }

    /// A number from 0.0 to under 1.0 (SplitMix64; Steele, Lea and Flood, 2014).
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// `first` times `factor` to the power of `times`, at most `longest`.
fn grow(first: Duration, factor: f64, times: u32, longest: Duration) -> Duration {
    // Beyond 64 growths every factor has reached every limit; the bound keeps the power finite.
    let exponent = i32::try_from(times.min(64)).unwrap_or(64);
    Duration::try_from_secs_f64(first.as_secs_f64() * factor.powi(exponent)).unwrap_or(longest).min(longest)
}

#[cfg(test)]
mod tests;
