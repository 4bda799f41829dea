//! A stream's snapshots as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::Event;
use axum::response::sse::KeepAlive;
use futures::Stream;
use futures::stream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::live::snapshot::StreamSnapshot;
use crate::model::id::StreamId;
use crate::model::id::UserId;
use crate::web::Gateway;
use crate::web::api::v1::streams::visible;
use crate::web::auth::Caller;
use crate::web::extract::Id;
use crate::web::places::Place;
use crate::web::problem::Problem;

/// Two events a second are as much as a person can read.
const INTERVAL: Duration = Duration::from_millis(500);

/// Proxies close connections that are silent for 30 to 60 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One reader of one stream. Between two events it keeps nothing but the newest snapshot, however slow it reads.
struct Reader {
    first: Option<StreamSnapshot>,
    changes: Option<watch::Receiver<StreamSnapshot>>,
    next_at: Instant,
    ends_at: Instant,
    shutdown: CancellationToken,
    _place: Place<UserId>,
}

/// The stream's snapshot now and at every change, at most twice a second, as events named `snapshot`.
///
/// The events end when the stream is over, when the gateway shuts down, and after a quarter of an hour, so that a reader comes back
/// with a token that is still valid.
#[utoipa::path(get, path = "/streams/{id}/events", operation_id = "watch_stream", tag = "streams", params(("id" = String, Path)), responses(
    (status = 200, description = "`event: snapshot`, `data:` a StreamSnapshot", body = StreamSnapshot, content_type = "text/event-stream"),
    (status = 429, description = "too many of them are open for this user", body = Problem, content_type = "application/problem+json", headers(("Retry-After" = u64))),
    (status = "default", description = "any other error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn events(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<StreamId>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let stored = visible(&gateway, &caller, id).await?;
    let place = gateway.limits.event_stream(&caller.0.user)?;
    let now = Instant::now();
    let mut changes = gateway.registry.watch(id);
    let first = changes.as_mut().map_or(stored, |changes| changes.borrow_and_update().clone());
    let reader = Reader {
        first: Some(first),
        changes,
        next_at: now,
        ends_at: now + Duration::from_millis(gateway.config.events_max_ms),
        shutdown: gateway.shutdown.clone(),
        _place: place,
    };
    let events = stream::unfold(reader, |mut reader| async {
        let snapshot = reader.next().await?;
        let data = serde_json::to_string(&snapshot).expect("a snapshot is plain values");
        Some((Ok(Event::default().event("snapshot").data(data)), reader))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

impl Reader {
    async fn next(&mut self) -> Option<StreamSnapshot> {
        if let Some(first) = self.first.take() {
            self.next_at = Instant::now() + INTERVAL;
            return Some(first);
        }
        let changes = self.changes.as_mut()?;
        let (ends_at, shutdown) = (self.ends_at, self.shutdown.clone());
        let change = async {
            tokio::time::sleep_until(self.next_at).await;
            changes.changed().await.ok()
        };
        tokio::select! {
            changed = change => changed?,
            () = tokio::time::sleep_until(ends_at) => return None,
            () = shutdown.cancelled() => return None,
        }
        self.next_at = Instant::now() + INTERVAL;
        Some(changes.borrow_and_update().clone())
    }
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
            state: StreamState::Live,
            reason: None,
            created_at_ms: 0,
            started_at_ms: None,
            ended_at_ms: None,
            destinations: Vec::new(),
            stats: StreamStats::default(),
        }
    }

    fn reader(receiver: watch::Receiver<StreamSnapshot>) -> Reader {
        let now = Instant::now();
        let first = receiver.borrow().clone();
        Reader {
            first: Some(first),
            changes: Some(receiver),
            next_at: now,
            ends_at: now + Duration::from_secs(60),
            shutdown: CancellationToken::new(),
            _place: Limits::new(&Default::default()).event_stream(&"anna".parse().expect("a user")).expect("free"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_stream_is_told_twice_a_second_and_the_newest_state_wins() {
        let (sender, receiver) = watch::channel(snapshot());
        let mut reader = reader(receiver);
        let started = Instant::now();
        assert_eq!(reader.next().await.expect("at once").stats.video_frames, 0);
        assert_eq!(started.elapsed(), Duration::ZERO);
        for frames in 1..=30 {
            sender.send_modify(|snapshot| snapshot.stats.video_frames = frames);
        }
        assert_eq!(reader.next().await.expect("a change").stats.video_frames, 30);
        assert!((INTERVAL..INTERVAL * 2).contains(&started.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_state_is_told_before_the_end() {
        let (sender, receiver) = watch::channel(snapshot());
        let mut reader = reader(receiver);
        reader.next().await.expect("at once");
        sender.send_modify(|snapshot| snapshot.state = StreamState::Ended);
        drop(sender);
        assert_eq!(reader.next().await.expect("the last").state, StreamState::Ended);
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
