//! One WHIP or WHEP resource: a task that joins for the peer, keeps its ICE sessions, and leaves when the peer is gone.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::live::rooms::Event;
use crate::live::rooms::Request;
use crate::live::rooms::RoomError;
use crate::live::rooms::TrackSource;
use crate::live::rooms::Transport;
use crate::model::id::ParticipantId;
use crate::model::media::MediaKind;
use crate::model::role::RoomGrant;
use crate::proto::whip::Fragment;
use crate::proto::whip::Negotiation;
use crate::proto::whip::PatchError;
use crate::proto::whip::Restarts;
use crate::proto::whip::SdpError;
use crate::proto::whip::Step;
use crate::proto::whip::offered_tracks;
use crate::web::problem::Problem;
use crate::web::seat::Seat;
use crate::web::whip::Desk;
use crate::web::whip::Handle;
use crate::web::whip::Side;
use crate::web::whip::WISH_QUEUE;

/// What the peer of a resource wishes.
pub(super) enum Wish {
    Patch { if_match: Option<String>, fragment: Fragment, reply: oneshot::Sender<Result<Patched, Problem>> },
    Delete { reply: oneshot::Sender<()> },
}

/// A PATCH was done.
pub(super) enum Patched {
    Trickled,
    Restarted { fragment: String, etag: String },
}

/// A resource is there.
pub(super) struct Opened {
    pub(super) participant: ParticipantId,
    pub(super) answer: String,
    pub(super) etag: String,
}

/// One resource.
struct Resource {
    side: Side,
    seat: Seat,
    negotiation: Negotiation,
}

/// Opens a resource, tells so, and attends to it until it is gone.
pub(super) async fn attend(
    desk: Arc<Desk>,
    side: Side,
    grant: RoomGrant,
    offer: String,
    opened: oneshot::Sender<Result<Opened, Problem>>,
) {
    let (resource, answer, events) = match Resource::open(&desk, side, &grant, offer).await {
        Ok(open) => open,
        Err(problem) => {
            let _hung_up = opened.send(Err(problem));
            return;
        }
    };
    let participant = resource.seat.participant;
    let (sender, wishes) = mpsc::channel(WISH_QUEUE);
    let handle = Handle { side, room: grant.room.clone(), user: grant.user.clone(), wishes: sender };
    desk.resources().insert(participant, handle);
    tracing::info!(room = %grant.room, %participant, user = %grant.user, side = side.as_str(), "peer joined");
    metrics::gauge!("jamcast_whip_peers", "side" => side.as_str()).increment(1.0);
    let reply = Opened { participant, answer, etag: resource.negotiation.etag() };
    let ending = if opened.send(Ok(reply)).is_ok() { resource.live(&desk, events, wishes).await } else { "hung_up" };
    desk.resources().remove(&participant);
    metrics::gauge!("jamcast_whip_peers", "side" => side.as_str()).decrement(1.0);
    tracing::info!(room = %grant.room, %participant, reason = ending, "peer left");
}

impl Resource {
    async fn open(
        desk: &Desk,
        side: Side,
        grant: &RoomGrant,
        offer: String,
    ) -> Result<(Self, String, mpsc::Receiver<Event>), Problem> {
        // The room fills a WHEP offer once, with what is there; only a WHIP offer may be repeated to restart ICE.
        let restarts = if side == Side::Whip { Restarts::Supported } else { Restarts::Unsupported };
        let negotiation = Negotiation::new(offer.clone(), restarts).map_err(bad_sdp)?;
        let tracks = if side == Side::Whip { offered_tracks(&offer).map_err(bad_sdp)? } else { Vec::new() };
        let (seat, _found, events) = Seat::take(&desk.state.rooms, grant).await?;
        let answer = match side {
            Side::Whip => seat.ask(|participant, reply| Request::Publish { participant, offer, reply }).await?,
            Side::Whep => seat.ask(|participant, reply| Request::Subscribe { participant, offer, reply }).await?,
        };
        for track in tracks {
            let source = match track.kind {
                MediaKind::Audio => TrackSource::Microphone,
                MediaKind::Video => TrackSource::Camera,
            };
            let mid = track.mid;
            seat.ask(|participant, reply| Request::Produce { participant, mid, source, reply }).await?;
        }
        Ok((Self { side, seat, negotiation }, answer, events))
    }

    /// Attends to wishes and events; returns why it ended, for the log.
    async fn live(
        mut self,
        desk: &Desk,
        mut events: mpsc::Receiver<Event>,
        mut wishes: mpsc::Receiver<Wish>,
    ) -> &'static str {
        let patience = Duration::from_millis(desk.state.config.connect_timeout_ms);
        let mut unconnected_until = Some(Instant::now() + patience);
        loop {
            tokio::select! {
                wish = wishes.recv() => match wish {
                    Some(Wish::Patch { if_match, fragment, reply }) => {
                        let _hung_up = reply.send(self.patch(if_match.as_deref(), &fragment).await);
                    }
                    Some(Wish::Delete { reply }) => {
                        // Taken out before the answer, so that the next request of the same peer already finds nothing.
                        desk.resources().remove(&self.seat.participant);
                        let _hung_up = reply.send(());
                        return "deleted";
                    }
                    None => return "unreachable",
                },
                event = events.recv() => match event {
                    Some(Event::TransportConnected(transport)) if transport == self.transport() => unconnected_until = None,
                    Some(Event::TransportFailed(transport)) if transport == self.transport() => {
                        unconnected_until = Some(Instant::now() + patience);
                    }
                    Some(Event::Removed { reason }) => return reason,
                    Some(_about_others) => {}
                    None => return "the room has ended",
                },
                () = tokio::time::sleep_until(unconnected_until.unwrap_or_else(Instant::now)), if unconnected_until.is_some() => {
                    return "not_connected";
                }
                () = desk.state.shutdown.cancelled() => return "shutting_down",
            }
        }
    }

    const fn transport(&self) -> Transport {
        match self.side {
            Side::Whip => Transport::Send,
            Side::Whep => Transport::Recv,
        }
    }

    async fn patch(&mut self, if_match: Option<&str>, fragment: &Fragment) -> Result<Patched, Problem> {
        match self.negotiation.patch(if_match, fragment).map_err(refused)? {
            Step::Trickle { candidates } => {
                self.add(candidates).await?;
                Ok(Patched::Trickled)
            }
            Step::Restart { offer, candidates } => {
                let repeated = offer.clone();
                let answer = self.seat.ask(|participant, reply| Request::Publish { participant, offer, reply }).await?;
                let fragment = self.negotiation.restarted(repeated, &answer).map_err(|error| {
                    tracing::error!(participant = %self.seat.participant, %error, "the room's answer to an ICE restart is unusable");
                    let detail = "the gateway failed to restart ICE; delete this resource and post a new offer";
                    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "restart_failed", detail)
                })?;
                self.add(candidates).await?;
                Ok(Patched::Restarted { fragment, etag: self.negotiation.etag() })
            }
        }
    }

    /// Hands candidates to the room. One of a kind that it does not know is left out, as RFC 8839 section 5.1 asks.
    async fn add(&self, candidates: Vec<String>) -> Result<(), RoomError> {
        let transport = self.transport();
        for candidate in candidates {
            let added = self
                .seat
                .ask(|participant, reply| Request::Candidate { participant, transport, candidate, reply })
                .await;
            match added {
                Err(RoomError::Candidate(why)) => {
                    tracing::debug!(participant = %self.seat.participant, %why, "candidate left out");
                }
                other => other?,
            }
        }
        Ok(())
    }
}

fn bad_sdp(error: SdpError) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_sdp", error.to_string())
}

fn refused(error: PatchError) -> Problem {
    let (status, code) = match error {
        PatchError::PreconditionRequired => (StatusCode::PRECONDITION_REQUIRED, "if_match_required"),
        PatchError::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "wrong_entity_tag"),
        PatchError::WrongCredentials => (StatusCode::UNPROCESSABLE_ENTITY, "wrong_ice_credentials"),
        PatchError::RestartUnsupported => (StatusCode::UNPROCESSABLE_ENTITY, "restart_unsupported"),
    };
    Problem::new(status, code, error.to_string())
}
