//! Rate limits: how many requests of which kind one caller may make, told in headers before they bite.

use std::hash::Hash;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::num::NonZeroU32;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use governor::RateLimiter;
use governor::clock::Clock;
use governor::clock::DefaultClock;
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use serde::Deserialize;

use crate::model::id::UserId;
use crate::web::places::Full;
use crate::web::places::Place;
use crate::web::places::Places;
use crate::web::problem::Problem;

/// Callers remembered per class; each takes under 300 bytes. When more than these are active at once, those beyond share one budget,
/// so that a flood of addresses costs its senders and not our memory.
const MAX_CALLERS: usize = 50_000;

/// Checks between two sweeps that forget callers whose budget is full again.
const SWEEP_EVERY: u64 = 1024;

/// Event streams of all users at once; each takes under 20 KiB.
const MAX_EVENT_STREAMS: usize = 5_000;

/// When to try again for an event stream, seconds.
const EVENTS_RETRY_AFTER_S: u64 = 10;

/// Budgets of one window.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// RATE_LIMIT_WINDOW: the window all budgets refer to.
    pub window_ms: u64,
    /// RATE_LIMIT_MAX: streams one user may create in a window.
    pub max: u32,
    /// All requests of one user in a window. An open studio makes one a second.
    pub read_max: u32,
    /// Requests without a valid token from one address in a window; what guessing tokens is allowed to cost us.
    pub anonymous_max: u32,
    /// Playlists and segments fetched from one address in a window. A viewer fetches one a second.
    pub viewer_max: u32,
    /// Event streams open at once for one user. A studio has one; every host of a room counts as its owner.
    pub events_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { window_ms: 60_000, max: 10, read_max: 600, anonymous_max: 60, viewer_max: 1200, events_max: 32 }
    }
}

/// All rate limits of the public face.
pub struct Limits {
    pub creations: Class<UserId>,
    pub requests: Class<UserId>,
    pub anonymous: Class<IpAddr>,
    pub viewers: Class<IpAddr>,
    events: Places<UserId>,
}

impl Limits {
    pub fn new(config: &Config) -> Self {
        let window = Duration::from_millis(config.window_ms.max(1));
        Self {
            creations: Class::new("stream_creations", config.max, window),
            requests: Class::new("requests", config.read_max, window),
            anonymous: Class::new("anonymous", config.anonymous_max, window),
            viewers: Class::new("viewers", config.viewer_max, window),
            events: Places::new("jamcast_http_event_streams", MAX_EVENT_STREAMS, config.events_max),
        }
    }

    /// A place for one more stream of events to this user.
    ///
    /// # Errors
    /// 429 when the user has as many open as one may, 503 when all users together do.
    pub fn event_stream(&self, user: &UserId) -> Result<Place<UserId>, Problem> {
        self.events.take(Some(user.clone())).map_err(|full| {
            let (status, detail) = match full {
                Full::Caller => {
                    (StatusCode::TOO_MANY_REQUESTS, "you have too many event streams open; close one first")
                }
                Full::Process => (StatusCode::SERVICE_UNAVAILABLE, "too many event streams are open; try again soon"),
            };
            metrics::counter!("jamcast_http_rate_limited_total", "class" => "event_streams").increment(1);
            Problem::new(status, "too_many_event_streams", detail).with_retry_after(EVENTS_RETRY_AFTER_S)
        })
    }
}

/// One kind of request with one budget per caller.
pub struct Class<K: Hash + Eq + Clone, C: Clock + Clone = DefaultClock> {
    name: &'static str,
    max: u32,
    window: Duration,
    limiter: RateLimiter<Option<K>, DashMapStateStore<Option<K>>, C, StateInformationMiddleware>,
    clock: C,
    checks: AtomicU64,
    crowded: AtomicBool,
}

/// What is left of a caller's budget; becomes the headers of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    class: &'static str,
    max: u32,
    window_s: u64,
    pub remaining: u32,
    /// Seconds until the whole budget is there again.
    pub reset_s: u64,
}

/// The budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    budget: Budget,
    /// Seconds until the next request is taken, rounded up: whoever waits this long is not refused again.
    pub retry_after_s: u64,
}

impl<K: Hash + Eq + Clone> Class<K> {
    fn new(name: &'static str, max: u32, window: Duration) -> Self {
        Self::with_clock(name, max, window, DefaultClock::default())
    }
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> Class<K, C> {
    fn with_clock(name: &'static str, max: u32, window: Duration, clock: C) -> Self {
        let burst = NonZeroU32::new(max).unwrap_or(NonZeroU32::MIN);
        let refill = (window / burst.get()).max(Duration::from_nanos(1));
        let quota = governor::Quota::with_period(refill).expect("longer than nothing").allow_burst(burst);
        let limiter = RateLimiter::new(quota, DashMapStateStore::default(), clock.clone());
        let (checks, crowded) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { name, max: burst.get(), window, limiter, clock, checks, crowded }
    }

    /// Takes one request out of the caller's budget.
    ///
    /// # Errors
    /// [`Exhausted`] when nothing is left; nothing is taken then.
    pub fn check(&self, caller: K) -> Result<Budget, Exhausted> {
        if self.checks.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.limiter.retain_recent();
            self.crowded.store(self.limiter.len() >= MAX_CALLERS, Ordering::Relaxed);
        }
        let key = if self.crowded.load(Ordering::Relaxed) { None } else { Some(caller) };
        match self.limiter.check_key(&key) {
            Ok(state) => Ok(self.budget(state.remaining_burst_capacity())),
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.clock.now());
                Err(Exhausted { budget: self.budget(0), retry_after_s: whole_seconds(wait).max(1) })
            }
        }
    }

    fn budget(&self, remaining: u32) -> Budget {
        let used = self.max.saturating_sub(remaining);
        let reset_s = whole_seconds(self.window * used / self.max);
        Budget { class: self.name, max: self.max, window_s: whole_seconds(self.window), remaining, reset_s }
    }
}

/// Rounded up, so that nobody is told to come back too early.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl Budget {
    /// Writes `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10 sections 3 and 4).
    pub fn write(&self, headers: &mut HeaderMap) {
        let policy = format!("\"{}\";q={};w={}", self.class, self.max, self.window_s);
        let state = format!("\"{}\";r={};t={}", self.class, self.remaining, self.reset_s);
        for (name, text) in [("ratelimit-policy", policy), ("ratelimit", state)] {
            let value = HeaderValue::from_str(&text).expect("class names and numbers are plain ASCII");
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

impl Exhausted {
    /// The 429 answer.
    pub fn into_problem(self) -> Problem {
        metrics::counter!("jamcast_http_rate_limited_total", "class" => self.budget.class).increment(1);
        let detail = format!(
            "at most {} of this kind of request in {} s; try again in {} s",
            self.budget.max, self.budget.window_s, self.retry_after_s
        );
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).with_retry_after(self.retry_after_s)
    }

    pub fn budget(&self) -> Budget {
        self.budget
    }
}

/// The unit that anonymous budgets are counted by: one IPv4 address, or one IPv6 /64, since a caller has a whole /64 to itself
/// (RFC 6177 section 2).
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn ten_a_minute() -> (Class<&'static str, FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Class::with_clock("stream_creations", 10, Duration::from_secs(60), clock.clone()), clock)
    }

    #[test]
    fn the_eleventh_in_a_minute_waits_and_others_do_not() {
        let (class, clock) = ten_a_minute();
        for left in (0..10).rev() {
            assert_eq!(class.check("anna").expect("within the budget").remaining, left);
        }
        let refused = class.check("anna").expect_err("the budget is used up");
        assert_eq!(refused.retry_after_s, 6);
        assert!(class.check("ben").is_ok());

        clock.advance(Duration::from_millis(5_999));
        assert_eq!(class.check("anna").expect_err("1 ms too early").retry_after_s, 1);
        clock.advance(Duration::from_millis(1));
        assert!(class.check("anna").is_ok());
    }

    #[test]
    fn waiting_as_long_as_told_is_always_enough() {
        let (class, clock) = ten_a_minute();
        clock.advance(Duration::from_millis(1_234));
        while class.check("anna").is_ok() {
            clock.advance(Duration::from_millis(137));
        }
        let refused = class.check("anna").expect_err("still used up");
        clock.advance(Duration::from_secs(refused.retry_after_s));
        assert!(class.check("anna").is_ok());
    }

    #[test]
    fn callers_whose_budget_is_full_again_are_forgotten() {
        let clock = FakeRelativeClock::default();
        let class = Class::with_clock("anonymous", 10, Duration::from_secs(60), clock.clone());
        for caller in 0..SWEEP_EVERY - 1 {
            class.check(caller).expect("everybody's first");
        }
        clock.advance(Duration::from_secs(120));
        class.check(u64::MAX).expect("a first one too");
        assert_eq!(class.limiter.len(), 1);
    }

    #[test]
    fn a_flood_of_callers_shares_one_budget() {
        let clock = FakeRelativeClock::default();
        let class = Class::with_clock("anonymous", 10, Duration::from_secs(60), clock);
        let flood = MAX_CALLERS as u64 + 2 * SWEEP_EVERY;
        let refused = (0..flood).filter(|caller| class.check(*caller).is_err()).count();
        assert!(refused > 0, "nobody was refused");
        assert!(class.limiter.len() <= MAX_CALLERS + SWEEP_EVERY as usize);
    }

    #[test]
    fn the_headers_follow_the_draft() {
        let (class, _clock) = ten_a_minute();
        let mut headers = HeaderMap::new();
        class.check("anna").expect("the first").write(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"stream_creations\";q=10;w=60");
        assert_eq!(headers["ratelimit"], "\"stream_creations\";r=9;t=6");
    }

    #[test]
    fn an_ipv6_caller_cannot_change_its_address_within_its_network() {
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(network_of(parse("2001:db8::1")), network_of(parse("2001:db8::ffff:2")));
        assert_ne!(network_of(parse("2001:db8::1")), network_of(parse("2001:db8:0:1::1")));
        assert_eq!(network_of(parse("::ffff:192.0.2.1")), parse("192.0.2.1"));
    }
}
