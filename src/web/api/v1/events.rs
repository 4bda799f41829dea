//! A stream's snapshots as server-sent events.

use std::convert::Infallible;
use std::future;
use std::time::Duration;

use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::Event;
use axum::response::sse::KeepAlive;
use futures::Stream;
use futures::stream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::live::snapshot::Meters;
use crate::live::snapshot::StreamSnapshot;
use crate::model::id::StreamId;
use crate::model::id::UserId;
use crate::web::Gateway;
use crate::web::api::v1::streams::visible;
use crate::web::api::v1::view::Wishes;
use crate::web::auth::Caller;
use crate::web::extract::Id;
use crate::web::places::Place;
use crate::web::problem::Problem;

/// Two events a second are as much as a person can read.
const INTERVAL: Duration = Duration::from_millis(500);

/// Meters are told as often as they are read, ten times a second, and never faster.
const METERS_INTERVAL: Duration = Duration::from_millis(90);

/// Proxies close connections that are silent for 30 to 60 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One reader of one stream. Between two events it keeps nothing but the newest snapshot, however slow it reads; of the meters it
/// misses what it is too slow for.
struct Reader {
    first: Option<StreamSnapshot>,
    changes: Option<watch::Receiver<StreamSnapshot>>,
    next_at: Instant,
    meters: Option<watch::Receiver<Meters>>,
    meters_at: Instant,
    ends_at: Instant,
    shutdown: CancellationToken,
    _place: Place<UserId>,
}

/// What a reader is told.
#[derive(Debug, PartialEq)]
enum News {
    Snapshot(Box<StreamSnapshot>),
    Meters(Meters),
}

impl News {
    fn event(&self) -> Event {
        let (name, data) = match self {
            Self::Snapshot(snapshot) => ("snapshot", serde_json::to_string(snapshot)),
            Self::Meters(meters) => ("meters", serde_json::to_string(meters)),
        };
        Event::default().event(name).data(data.expect("both are plain values"))
    }
}

/// The stream's snapshot now and at every change, at most twice a second, as events named `snapshot`.
///
/// With `meters=true` there are events named `meters` as well, ten times a second while the programme runs. A slow reader misses
/// some of them.
///
/// The events end when the stream is over, when the gateway shuts down, and after a quarter of an hour, so that a reader comes back
/// with a token that is still valid.
#[utoipa::path(get, path = "/streams/{id}/events", operation_id = "watch_stream", tag = "streams", params(("id" = String, Path), Wishes), responses(
    (status = 200, description = "`event: snapshot`, `data:` a StreamSnapshot; `event: meters`, `data:` Meters", body = StreamSnapshot, content_type = "text/event-stream"),
    (status = 429, description = "too many of them are open for this user", body = Problem, content_type = "application/problem+json", headers(("Retry-After" = u64))),
    (status = "default", description = "any other error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn events(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<StreamId>,
    wishes: Result<Query<Wishes>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let Query(wishes) = wishes.map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, "bad_query", "the query takes meters, which is true or false")
    })?;
    let stored = visible(&gateway, &caller, id).await?;
    let place = gateway.limits.event_stream(&caller.0.user)?;
    let now = Instant::now();
    let mut changes = gateway.registry.watch(id);
    let first = changes.as_mut().map_or(stored, |changes| changes.borrow_and_update().clone());
    let reader = Reader {
        first: Some(first),
        changes,
        next_at: now,
        meters: if wishes.meters { gateway.registry.meters(id) } else { None },
        meters_at: now,
        ends_at: now + Duration::from_millis(gateway.config.events_max_ms),
        shutdown: gateway.shutdown.clone(),
        _place: place,
    };
    let events = stream::unfold(reader, |mut reader| async {
        let news = reader.next().await?;
        Some((Ok(news.event()), reader))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

impl Reader {
    async fn next(&mut self) -> Option<News> {
        if let Some(first) = self.first.take() {
            self.next_at = Instant::now() + INTERVAL;
            return Some(News::Snapshot(Box::new(first)));
        }
        let changes = self.changes.as_mut()?;
        let (ends_at, shutdown) = (self.ends_at, self.shutdown.clone());
        let change = async {
            tokio::time::sleep_until(self.next_at).await;
            changes.changed().await.ok()
        };
        tokio::select! {
            changed = change => changed?,
            meters = next_meters(&mut self.meters, self.meters_at) => {
                self.meters_at = Instant::now() + METERS_INTERVAL;
                return Some(News::Meters(meters));
            }
            () = tokio::time::sleep_until(ends_at) => return None,
            () = shutdown.cancelled() => return None,
        }
        self.next_at = Instant::now() + INTERVAL;
        Some(News::Snapshot(Box::new(changes.borrow_and_update().clone())))
    }
}

/// The newest meters after `at`; for ever pending when there are none to come. Safe to cancel.
async fn next_meters(meters: &mut Option<watch::Receiver<Meters>>, at: Instant) -> Meters {
    let Some(newest) = meters else { return future::pending().await };
    tokio::time::sleep_until(at).await;
    if newest.changed().await.is_err() {
        *meters = None;
        return future::pending().await;
    }
    newest.borrow_and_update().clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::snapshot::StreamState;
    use crate::live::snapshot::StreamStats;
    use crate::model::spec::ProgrammeSpec;
    use crate::web::limits::Limits;

    fn snapshot() -> StreamSnapshot {
        StreamSnapshot {
            id: StreamId::generate(),
            room: "jam".parse().expect("a room name"),
            owner: "anna".parse().expect("a user"),
            title: "Jam".into(),
            programme: ProgrammeSpec::default(),
            record: false,
            stems: false,
            hls_url: None,
            state: StreamState::Live,
            reason: None,
            created_at_ms: 0,
            started_at_ms: None,
            ended_at_ms: None,
            destinations: Vec::new(),
            stats: StreamStats::default(),
            recording: Default::default(),
            mix: Default::default(),
            layout: Default::default(),
            dressing: Default::default(),
        }
    }

    fn reader(receiver: watch::Receiver<StreamSnapshot>) -> Reader {
        let now = Instant::now();
        let first = receiver.borrow().clone();
        Reader {
            first: Some(first),
            changes: Some(receiver),
            next_at: now,
            meters: None,
            meters_at: now,
            ends_at: now + Duration::from_secs(60),
            shutdown: CancellationToken::new(),
            _place: Limits::new(&Default::default()).event_stream(&"anna".parse().expect("a user")).expect("free"),
        }
    }

    async fn told(reader: &mut Reader) -> StreamSnapshot {
        match reader.next().await.expect("not over") {
            News::Snapshot(snapshot) => *snapshot,
            News::Meters(meters) => panic!("{meters:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_stream_is_told_twice_a_second_and_the_newest_state_wins() {
        let (sender, receiver) = watch::channel(snapshot());
        let mut reader = reader(receiver);
        let started = Instant::now();
        assert_eq!(told(&mut reader).await.stats.video_frames, 0);
        assert_eq!(started.elapsed(), Duration::ZERO);
        for frames in 1..=30 {
            sender.send_modify(|snapshot| snapshot.stats.video_frames = frames);
        }
        assert_eq!(told(&mut reader).await.stats.video_frames, 30);
        assert!((INTERVAL..INTERVAL * 2).contains(&started.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn meters_come_ten_times_a_second_beside_the_snapshots_and_the_newest_wins() {
        let (sender, receiver) = watch::channel(snapshot());
        let (meter, meters) = watch::channel(Meters::default());
        let mut reader = Reader { meters: Some(meters), ..reader(receiver) };
        told(&mut reader).await;
        let level = |loudness: f64| Meters { momentary_lufs: Some(loudness), ..Meters::default() };
        let started = Instant::now();
        for n in 0..10 {
            // Three for every one that can be told.
            (0..3).for_each(|step| drop(meter.send_replace(level(f64::from(n * 3 + step)))));
            assert_eq!(reader.next().await, Some(News::Meters(level(f64::from(n * 3 + 2)))));
        }
        assert!((METERS_INTERVAL * 9..INTERVAL * 2).contains(&started.elapsed()), "{:?}", started.elapsed());
        sender.send_modify(|snapshot| snapshot.stats.video_frames = 7);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(told(&mut reader).await.stats.video_frames, 7);
        drop(meter);
        sender.send_modify(|snapshot| snapshot.state = StreamState::Ended);
        assert_eq!(told(&mut reader).await.state, StreamState::Ended, "the end of the meters is not the end");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_state_is_told_before_the_end() {
        let (sender, receiver) = watch::channel(snapshot());
        let mut reader = reader(receiver);
        reader.next().await.expect("at once");
        sender.send_modify(|snapshot| snapshot.state = StreamState::Ended);
        drop(sender);
        assert_eq!(told(&mut reader).await.state, StreamState::Ended);
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_ends_in_time_and_at_shutdown() {
        let (_sender, receiver) = watch::channel(snapshot());
        let mut reader = reader(receiver.clone());
        reader.next().await.expect("at once");
        assert_eq!(reader.next().await, None);

        let mut reader = self::reader(receiver);
        reader.next().await.expect("at once");
        reader.shutdown.cancel();
        assert_eq!(reader.next().await, None);
    }
}
