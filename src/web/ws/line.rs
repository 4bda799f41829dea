//! One open socket: pumps frames between it and its conversation, calls and events between the conversation and the room.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use axum::extract::ws::CloseFrame;
use axum::extract::ws::Message;
use axum::extract::ws::WebSocket;
use axum::extract::ws::close_code;
use futures::FutureExt;
use futures::SinkExt;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::future::poll_fn;
use futures::stream::FuturesUnordered;
use futures::stream::SplitSink;
use tokio::sync::mpsc;

use crate::live::rooms::Event;
use crate::proto::signal::Conversation;
use crate::proto::signal::Farewell;
use crate::proto::signal::Output;
use crate::proto::signal::Push;
use crate::web::seat::Seat;
use crate::web::ws::Desk;
use crate::web::ws::carry;
use crate::web::ws::carry::Done;
use crate::web::ws::cloakroom::Ticket;

/// How long a participant may take to read the farewell before the socket is dropped.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// The open socket's other half: what this participant does in the room.
struct Line<'a> {
    desk: &'a Desk,
    conversation: Conversation,
    ticket: Option<Ticket>,
    seat: Option<Arc<Seat>>,
    events: Option<mpsc::Receiver<Event>>,
    /// Calls being carried out; the conversation bounds them.
    underway: FuturesUnordered<BoxFuture<'static, Done>>,
}

/// Talks until either side ends it. Afterwards the participant has left the room, or does so when it does not come back in time.
pub(super) async fn converse(socket: WebSocket, desk: &Desk) {
    let (mut sink, mut frames) = socket.split();
    let mut line = Line {
        desk,
        conversation: Conversation::new(now(), desk.state.config.limits()),
        ticket: None,
        seat: None,
        events: None,
        underway: FuturesUnordered::new(),
    };
    let mut unflushed = false;
    let mut give_up_at = None;
    loop {
        line.start_calls();
        if line.conversation.is_closed() && give_up_at.is_none() {
            give_up_at = Some(now() + FAREWELL_TIMEOUT);
        }
        if line.conversation.is_over() && !unflushed {
            break;
        }
        let deadline = give_up_at.or_else(|| line.conversation.poll_timeout()).unwrap_or_else(now);
        let open = give_up_at.is_none();
        let has_output = line.conversation.has_output() || unflushed;
        tokio::select! {
            written = write_out(&mut sink, &mut line.conversation, &mut unflushed), if has_output => {
                if written.is_err() { break }
            }
            frame = frames.next(), if open => {
                let Some(frame) = frame else { break };
                if !line.hear(frame) { break }
            }
            Some(done) = line.underway.next(), if open => line.finish(done),
            event = next_event(&mut line.events), if open => line.tell(event),
            () = tokio::time::sleep_until(deadline.into()) => {
                if !open { break }
                line.conversation.handle_timeout(now());
            }
            () = taken(line.ticket.as_ref()), if open => line.conversation.end(Farewell::Resumed),
            () = desk.state.shutdown.cancelled(), if open => line.conversation.end(Farewell::ShuttingDown),
        }
    }
    line.report();
}

/// The machines take time as `std`'s instants; tokio's clock can be paused in tests.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The next event of the room, `None` when it has no more; waits for ever before joining.
async fn next_event(events: &mut Option<mpsc::Receiver<Event>>) -> Option<Event> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// Waits until the participant goes on over another socket.
async fn taken(ticket: Option<&Ticket>) {
    match ticket {
        Some(ticket) => ticket.taken().await,
        None => std::future::pending().await,
    }
}

/// Writes what the conversation has to say. Cancelled at any point it loses nothing: a frame is taken only when the socket can have it.
async fn write_out(
    sink: &mut SplitSink<WebSocket, Message>,
    conversation: &mut Conversation,
    unflushed: &mut bool,
) -> Result<(), axum::Error> {
    while conversation.has_output() {
        poll_fn(|context| sink.poll_ready_unpin(context)).await?;
        let Some(output) = conversation.poll_output() else { break };
        *unflushed = true;
        sink.start_send_unpin(frame(output))?;
    }
    sink.flush().await?;
    *unflushed = false;
    Ok(())
}

fn frame(output: Output) -> Message {
    match output {
        Output::Text(text) => Message::Text(text.into()),
        Output::Ping => Message::Ping(Vec::new().into()),
        Output::Close(farewell) => {
            Message::Close(Some(CloseFrame { code: farewell.code(), reason: farewell.as_str().into() }))
        }
    }
}

impl Line<'_> {
    fn start_calls(&mut self) {
        while let Some((id, ask)) = self.conversation.poll_call() {
            self.underway.push(carry::carry_out(self.desk.clone(), self.seat.clone(), id, ask).boxed());
        }
    }

    /// Takes a frame in; `false` if the participant has closed the socket or it is broken.
    fn hear(&mut self, frame: Result<Message, axum::Error>) -> bool {
        match frame {
            Ok(Message::Text(text)) => self.conversation.handle_text(now(), &text),
            Ok(Message::Binary(_)) => self.conversation.handle_binary(now()),
            Ok(Message::Ping(_) | Message::Pong(_)) => self.conversation.handle_control(now()),
            Ok(Message::Close(said)) => {
                if said.is_some_and(|said| matches!(said.code, close_code::NORMAL | close_code::AWAY)) {
                    self.conversation.end(Farewell::Left);
                }
                return false;
            }
            Err(error) if is_too_big(&error) => self.conversation.end(Farewell::TooBig),
            Err(error) => {
                tracing::debug!(%error, "signalling socket broken");
                return false;
            }
        }
        true
    }

    fn finish(&mut self, done: Done) {
        if let Some(arrival) = done.arrival {
            let (seat, grant) = (&arrival.seat, &arrival.grant);
            let resumed = arrival.resumed;
            tracing::info!(room = %seat.room, participant = %seat.participant, user = %grant.user, role = ?grant.role, resumed, "participant joined");
            metrics::counter!("jamcast_signal_joins_total", "resumed" => if resumed { "yes" } else { "no" })
                .increment(1);
            self.ticket = Some(arrival.ticket);
            self.seat = Some(arrival.seat);
            self.events = Some(arrival.events);
        }
        self.conversation.finish(done.id, done.outcome);
    }

    fn tell(&mut self, event: Option<Event>) {
        // The room speaks to one socket only; the other one knows why it hears no more.
        if event.is_none() && self.ticket.as_ref().is_some_and(Ticket::is_taken) {
            return self.conversation.end(Farewell::Resumed);
        }
        let push =
            event.map_or_else(|| Push::Removed { reason: "the room has ended; join again".to_owned() }, carry::told);
        self.conversation.push(&push);
    }

    fn report(mut self) {
        let reason = self.conversation.farewell().map_or("disconnected", Farewell::as_str);
        metrics::counter!("jamcast_signal_closed_total", "reason" => reason).increment(1);
        metrics::counter!("jamcast_signal_dropped_messages_total").increment(self.conversation.take_dropped());
        let Some(seat) = &self.seat else { return };
        let ticket = self.ticket.take().filter(|_| self.conversation.farewell().is_none_or(Farewell::is_mishap));
        if let Some(ticket) = ticket {
            tracing::info!(room = %seat.room, participant = %seat.participant, reason, "participant's line broke; its place is kept");
            ticket.keep();
        } else {
            tracing::info!(room = %seat.room, participant = %seat.participant, reason, "participant left");
        }
    }
}

/// Whether the socket refused a message because of its length. The web framework hides the kind of its errors behind their text.
fn is_too_big(error: &axum::Error) -> bool {
    error.to_string().contains("too long")
}
