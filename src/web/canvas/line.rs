//! One open canvas socket: the token, then frames one way and what may be sent the other way.

use std::time::Instant;

use axum::extract::ws::CloseFrame;
use axum::extract::ws::Message;
use axum::extract::ws::WebSocket;
use axum::extract::ws::close_code;
use bytes::Bytes;
use metrics::counter;
use rustix::time::ClockId;
use rustix::time::clock_gettime;
use tokio::time::timeout;

use crate::domain::canvas::Dropped;
use crate::domain::canvas::Feed;
use crate::domain::canvas::Output;
use crate::live::canvas::Brush;
use crate::live::canvas::Wanted;
use crate::model::media::CanvasFormat;
use crate::model::role::RoomGrant;
use crate::model::role::RoomRole;
use crate::proto::canvas::Frames;
use crate::proto::canvas::FromGateway;
use crate::proto::canvas::FromSender;
use crate::proto::canvas::MAX_MESSAGE;
use crate::proto::canvas::MAX_TEXT;
use crate::proto::canvas::MOST_PIXELS;
use crate::proto::canvas::MOST_SIDE;
use crate::web::canvas::State;
use crate::web::problem::token_code;

/// Messages in a row that cannot be used before the socket is closed: a sender that has not noticed by then never will.
const PATIENCE: u32 = 100;

/// All formats, the best ones for a stage first.
const FORMATS: [CanvasFormat; 6] = [
    CanvasFormat::H264,
    CanvasFormat::Vp8,
    CanvasFormat::Jpeg,
    CanvasFormat::Webp,
    CanvasFormat::Png,
    CanvasFormat::Rgba,
];

/// Why a canvas is refused or closed, for programs and for people.
struct Refusal {
    code: &'static str,
    message: String,
}

/// Why the line ends.
enum End {
    /// The other side is gone; nobody is left to be told.
    Gone,
    Refused(Refusal),
    ShuttingDown,
}

fn refused(code: &'static str, message: impl Into<String>) -> End {
    End::Refused(Refusal { code, message: message.into() })
}

/// Relays a canvas until either side ends it.
pub(super) async fn relay(mut socket: WebSocket, state: &State) {
    let opened = match timeout(state.config.open_timeout(), open(&mut socket, state)).await {
        Ok(opened) => opened,
        Err(_) => Err(refused("open_timeout", "no `open` with a token came in time")),
    };
    let end = match opened {
        Ok((grant, brush)) => {
            tracing::info!(room = %grant.room, user = %grant.user, "a canvas was opened");
            let end = Line::new(state, brush).run(&mut socket).await;
            tracing::info!(room = %grant.room, user = %grant.user, "a canvas was closed");
            end
        }
        Err(end) => end,
    };
    farewell(socket, end).await;
}

async fn open(socket: &mut WebSocket, state: &State) -> Result<(RoomGrant, Brush), End> {
    let text = loop {
        match socket.recv().await {
            Some(Ok(Message::Text(text))) => break text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_))) => {
                return Err(refused("not_open", "the first message must be `open` with a room token"));
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Gone),
        }
    };
    let FromSender::Open { token } = read(&text)?;
    let grant =
        state.identity.room_grant(token.expose()).map_err(|error| refused(token_code(error), error.to_string()))?;
    if grant.role < RoomRole::Host {
        return Err(refused("role_too_low", "a canvas is part of the broadcast, which a host runs"));
    }
    let brush =
        state.canvases.open(&grant.room, &grant.name).map_err(|taken| refused("canvas_taken", taken.to_string()))?;
    let opened = FromGateway::Opened {
        formats: FORMATS.to_vec(),
        max_width: MOST_SIDE,
        max_height: MOST_SIDE,
        max_pixels: MOST_PIXELS,
        max_message_bytes: MAX_MESSAGE,
    };
    tell(socket, &opened).await?;
    Ok((grant, brush))
}

fn read(text: &str) -> Result<FromSender, End> {
    if text.len() > MAX_TEXT {
        return Err(refused("too_long", format!("a text message has {MAX_TEXT} bytes at most")));
    }
    serde_json::from_str(text).map_err(|error| refused("malformed", format!("the message cannot be read: {error}")))
}

async fn tell(socket: &mut WebSocket, message: &FromGateway) -> Result<(), End> {
    let text = serde_json::to_string(message).expect("these messages are plain values");
    socket.send(Message::Text(text.into())).await.map_err(|_| End::Gone)
}

async fn farewell(mut socket: WebSocket, end: End) {
    let (code, reason) = match end {
        End::Gone => return,
        End::ShuttingDown => (close_code::RESTART, "the gateway restarts".to_owned()),
        End::Refused(Refusal { code, message }) => {
            counter!("jamcast_canvas_refused_total", "reason" => code).increment(1);
            let said = FromGateway::Refused { code: code.to_owned(), message };
            if tell(&mut socket, &said).await.is_err() {
                return;
            }
            (close_code::POLICY, code.to_owned())
        }
    };
    // Whoever does not read its farewell has gone already.
    let _gone_already = socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
}

/// An open canvas.
struct Line<'a> {
    state: &'a State,
    brush: Brush,
    feed: Feed,
    heard_at: Instant,
    ping_at: Instant,
    /// Messages in a row that could not be used.
    useless: u32,
}

impl<'a> Line<'a> {
    fn new(state: &'a State, brush: Brush) -> Self {
        let now = now();
        let feed = Feed::new(now);
        Self { state, brush, feed, heard_at: now, ping_at: now + state.config.ping_interval(), useless: 0 }
    }

    async fn run(mut self, socket: &mut WebSocket) -> End {
        let wishes = self.brush.wishes();
        self.grant(wishes.take());
        loop {
            if let Err(end) = self.speak(socket).await {
                return end;
            }
            let silent_at = self.heard_at + self.state.config.silence();
            let deadline = [Some(silent_at), Some(self.ping_at), self.feed.poll_timeout()].into_iter().flatten().min();
            tokio::select! {
                message = socket.recv() => match message {
                    Some(Ok(message)) => {
                        if let Err(end) = self.hear(message, socket).await {
                            return end;
                        }
                    }
                    Some(Err(error)) if error.to_string().contains("too long") => {
                        return refused("too_long", format!("a message has {MAX_MESSAGE} bytes at most"));
                    }
                    Some(Err(_)) | None => return End::Gone,
                },
                () = wishes.changed() => self.grant(wishes.take()),
                () = tokio::time::sleep_until(deadline.unwrap_or(silent_at).into()) => {
                    if now() >= silent_at {
                        return End::Gone;
                    }
                    self.feed.handle_timeout(now());
                }
                () = self.state.shutdown.cancelled() => return End::ShuttingDown,
            }
        }
    }

    fn grant(&mut self, wanted: Wanted) {
        self.feed.watch(now(), wanted.watched);
        for _ in 0..wanted.returned {
            self.feed.returned();
        }
        if wanted.keyframe {
            self.feed.want_keyframe(now());
        }
    }

    /// Tells the sender what the feed has decided.
    async fn speak(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        while let Some(output) = self.feed.poll_output() {
            let message = match output {
                Output::Credit(frames) => FromGateway::Credit { frames },
                Output::Keyframe => FromGateway::Keyframe,
                Output::Pace(pace) => FromGateway::Pace { max_fps: pace.fps, max_kbps: pace.kbps, scale: pace.scale },
            };
            tell(socket, &message).await?;
        }
        if now() >= self.ping_at {
            self.ping_at = now() + self.state.config.ping_interval();
            socket.send(Message::Ping(Bytes::new())).await.map_err(|_| End::Gone)?;
        }
        Ok(())
    }

    async fn hear(&mut self, message: Message, socket: &mut WebSocket) -> Result<(), End> {
        self.heard_at = now();
        match message {
            Message::Binary(message) => self.frames(message, socket).await,
            Message::Text(text) => {
                let FromSender::Open { .. } = read(&text)?;
                Err(refused("already_open", "this socket has a canvas already"))
            }
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => Err(End::Gone),
        }
    }

    async fn frames(&mut self, message: Bytes, socket: &mut WebSocket) -> Result<(), End> {
        let arrival_us = monotonic_us();
        let mut complaint = None;
        for frame in Frames::new(message) {
            let frame = match frame {
                Ok(frame) => frame,
                Err(malformed) => {
                    counter!("jamcast_canvas_dropped_frames_total", "reason" => "malformed").increment(1);
                    complaint = Some(malformed.to_string());
                    break;
                }
            };
            match self.feed.frame(now(), &frame) {
                Ok(()) => {
                    self.useless = 0;
                    counter!("jamcast_canvas_frames_total", "format" => frame.format.as_str()).increment(1);
                    self.brush.paint(arrival_us, &frame);
                }
                Err(dropped) => {
                    counter!("jamcast_canvas_dropped_frames_total", "reason" => dropped.as_str()).increment(1);
                    // What was on its way when the last viewer went is nobody's fault.
                    complaint = (dropped != Dropped::Unwatched).then(|| dropped.to_string());
                }
            }
        }
        let Some(reason) = complaint else { return Ok(()) };
        self.useless += 1;
        if self.useless > PATIENCE {
            return Err(refused(
                "too_many_bad_frames",
                format!("{PATIENCE} messages in a row were of no use: {reason}"),
            ));
        }
        tell(socket, &FromGateway::Dropped { reason }).await
    }
}

/// The feed takes time as `std`'s instants; tokio's clock can be paused in tests.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The machine's monotonic clock, which the mixer reads as well.
fn monotonic_us() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}
