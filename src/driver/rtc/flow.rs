//! The packet path of a worker: datagrams in, forwarded packets out, audio before video.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use bytes::BytesMut;

use crate::domain::room::forwarder::Incoming;
use crate::domain::room::keyframe::Plea;
use crate::domain::room::picture::Shift;
use crate::domain::room::producer::Tap;
use crate::domain::room::red::Repeater;
use crate::domain::room::selector::Part;
use crate::domain::room::transit::Passage;
use crate::domain::room::window::Arrival;
use crate::driver::rtc::delays::leg;
use crate::driver::rtc::host::Host;
use crate::driver::rtc::media::Media;
use crate::driver::rtc::path::Protocol;
use crate::driver::rtc::path::Remote;
use crate::driver::rtc::peer::Form;
use crate::driver::rtc::peer::Heard;
use crate::live::rooms::Event;
use crate::live::rooms::TapMedia;
use crate::live::rooms::Transport;
use crate::model::media::Codec;
use crate::model::media::MediaKind;
use crate::proto::mixer::TappedPacket;

/// Rounds of listening to peers in one turn; what they still have to say then waits for the next.
const MAX_ROUNDS: usize = 8;
/// Received packets forwarded before the outbox is emptied: a frame's worth of one camera, so that a listener's share leaves in one call.
const BURST: usize = 16;
/// Between the stack's sender reports.
const REPORTS: Duration = Duration::from_secs(1);

/// A packet with the one before it, made once for all who get it so.
#[derive(Default)]
struct Twice(Option<(u8, Option<Bytes>)>);

impl Twice {
    fn of(&mut self, repeater: &Repeater, payload_type: u8, packet: &Incoming, payload: &Bytes) -> Option<Bytes> {
        if self.0.as_ref().is_none_or(|(made_for, _)| *made_for != payload_type) {
            self.0 = Some((payload_type, repeater.repeat(payload_type, packet.seq, packet.timestamp, payload)));
        }
        self.0.as_ref().and_then(|(_, made)| made.clone())
    }
}

impl Host {
    /// One received datagram; [`Host::turn`] does what follows from it.
    pub(super) fn receive(&mut self, now: Instant, local: SocketAddr, from: Remote, datagram: &[u8]) {
        let Some(key) = self.demux.route(from, datagram) else { return };
        let Some(line) = self.lines.get_mut(&key) else { return };
        self.work.is_for(line.room);
        line.peer.receive(now, local, from, BytesMut::from(datagram));
        self.touch(key);
    }

    /// Runs the timers that are due.
    pub(super) fn run_timers(&mut self, now: Instant) {
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            // A timer that was moved left its old place in the heap.
            let Some(line) = self.lines.get_mut(&key).filter(|line| line.timer == Some(at)) else { continue };
            self.work.is_for(line.room);
            line.timer = None;
            line.peer.handle_timeout(now);
            self.touch(key);
        }
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Listens to the peers that were touched, forwards their media and has `send` empty the outbox again and again: audio leaves before
    /// video is encrypted, and what waits in memory is bounded however much came at once.
    pub(super) fn turn(&mut self, now: Instant, mut send: impl FnMut(&mut Self)) {
        for _ in 0..MAX_ROUNDS {
            let touched = self.dirty.clone();
            for key in touched {
                if self.lines.get(&key).is_some_and(|line| line.is_touched) {
                    self.listen(now, key);
                }
            }
            let media = std::mem::take(&mut self.media);
            for kind in [MediaKind::Audio, MediaKind::Video] {
                for burst in media.chunks(BURST) {
                    for (key, packet) in burst {
                        if self.kind(*key, packet) == Some(kind) {
                            self.forward(now, *key, kind, packet);
                        }
                    }
                    self.flush(now);
                    send(self);
                }
            }
            self.flush(now);
            send(self);
            self.recycle(media);
            if self.dirty.is_empty() {
                break;
            }
        }
    }

    fn listen(&mut self, now: Instant, key: u64) {
        let mut heard = std::mem::take(&mut self.heard);
        let Some(line) = self.lines.get_mut(&key) else { return };
        let (room, participant, transport) = (line.room, line.participant, line.transport);
        self.work.is_for(room);
        line.peer.poll(now, &mut heard);
        let red = line.peer.red();
        let refused = line.peer.take_refused();
        if refused > 0 {
            self.refused_repetitions(now, room, participant, refused);
        }
        let mut changed = false;
        for heard in heard.drain(..) {
            match heard {
                Heard::Media(media) => {
                    if red == Some(media.payload_type()) {
                        self.media.extend(media.unwrapped().map(|media| (key, media)));
                    } else {
                        self.media.push((key, media));
                    }
                    continue;
                }
                Heard::SenderReport { ssrc, ntp, rtp } => {
                    let Some(hosted) = self.rooms.get_mut(&room) else { continue };
                    let Some(producer) = hosted.room.source(participant, ssrc) else { continue };
                    let track = producer.track;
                    let heard = if producer.is_in_programme() { &hosted.taps[..] } else { &[] };
                    let Some((ntp, rtp)) = producer.report(ssrc, ntp, rtp) else { continue };
                    for tap in heard {
                        let sent = tap.media.try_send(TapMedia::SenderReport { track, ntp, rtp });
                        self.counters.tap_dropped += u64::from(sent.is_err());
                    }
                    continue;
                }
                Heard::KeyframeWanted { lane } => {
                    let outlet = crate::domain::room::producer::Outlet { peer: key, lane };
                    if let Some(hosted) = self.rooms.get_mut(&room) {
                        let plea = hosted.room.plead_at_outlet(now, outlet);
                        if plea.0 == Plea::Refused {
                            self.refused_keyframe(now, room, participant);
                        } else {
                            self.plead(now, room, plea);
                        }
                    }
                }
                Heard::Passed(passages) => {
                    self.passed(now, room, key, &passages);
                    continue;
                }
                Heard::RoundTrip(measured) => {
                    if let Some(hosted) = self.rooms.get_mut(&room) {
                        hosted.room.note_round_trip(participant, leg(transport), measured);
                        let send = hosted.seats.get(&participant).and_then(|seat| seat.send);
                        if let Some(line) = send.and_then(|key| self.lines.get(&key)) {
                            line.peer.note_round_trip(measured);
                        }
                    }
                    continue;
                }
                Heard::Lost { lane, share } => {
                    self.lost(now, room, key, lane, share);
                    continue;
                }
                Heard::Source { mid, rid, ssrc } => {
                    if let Some(hosted) = self.rooms.get_mut(&room) {
                        hosted.room.bind_source(participant, &mid, rid.as_deref(), ssrc);
                    }
                    self.request_keyframes_due(now, room);
                }
                Heard::Connected => self.line_connected(now, key),
                Heard::Quiet | Heard::Failed => {
                    self.tell(room, participant, Event::TransportFailed(transport));
                    self.restart_if_ours(room, participant, transport);
                }
                Heard::Closed => {
                    self.tell(room, participant, Event::TransportFailed(transport));
                    self.close_line(key);
                    if let Ok(seat) = self.seat(room, participant) {
                        seat.is_lost = true;
                    }
                }
            }
            changed = true;
        }
        self.heard = heard;
        if changed {
            self.settle(now, room);
        }
    }

    /// A receiver's report of loss: of video for the choice of layers, of sound for whether it goes twice.
    fn lost(&mut self, now: Instant, room: u64, key: u64, lane: usize, share: f64) {
        let (Some(hosted), Some(line)) = (self.rooms.get_mut(&room), self.lines.get_mut(&key)) else { return };
        if line.peer.is_audio(lane) {
            line.peer.sound_lost(now, lane, share, hosted.room.is_full(now, key));
        } else if hosted.room.lost(now, key, share) {
            tracing::debug!(participant = %line.participant, "a link is full: much is lost");
            line.peer.filled(now);
        }
        line.peer.set_full(hosted.room.is_full(now, key));
    }

    /// What a receiver tells of the packets of video that came.
    fn passed(&mut self, now: Instant, room: u64, key: u64, passages: &[Passage]) {
        let (Some(hosted), Some(line)) = (self.rooms.get_mut(&room), self.lines.get_mut(&key)) else { return };
        if hosted.room.passed(now, key, passages) {
            tracing::debug!(participant = %line.participant, "a link is full: packets wait in a queue");
            line.peer.filled(now);
        }
        line.peer.set_full(hosted.room.is_full(now, key));
    }

    /// Sends trains of empty packets to those who see nothing for want of room.
    pub(super) fn send_trains(&mut self, now: Instant, room: u64) {
        let Some(hosted) = self.rooms.get_mut(&room) else { return };
        for (outlet, train) in hosted.room.trains_due(now) {
            let Some(line) = self.lines.get_mut(&outlet.peer) else { continue };
            train.into_iter().for_each(|out| line.peer.write_empty(now, outlet.lane, out));
            if !std::mem::replace(&mut line.is_dirty, true) {
                self.dirty.push(outlet.peer);
            }
        }
    }

    pub(super) fn tell(&mut self, room: u64, participant: crate::model::id::ParticipantId, event: Event) {
        if let Ok(seat) = self.seat(room, participant) {
            let _gone_or_deaf = seat.events.try_send(event);
        }
    }

    /// Volume hints are the first to be left out where somebody is slow to listen.
    pub(super) fn tell_levels(&mut self, room: u64) {
        let Some(hosted) = self.rooms.get_mut(&room) else { return };
        for (participant, levels) in hosted.room.levels() {
            if let Some(seat) = hosted.seats.get(&participant) {
                seat.hint(Event::Levels(levels));
            }
        }
    }

    fn kind(&self, key: u64, media: &Media) -> Option<MediaKind> {
        let line = self.lines.get(&key).filter(|line| line.transport == Transport::Send)?;
        line.peer.encoding(media.payload_type()).map(|encoding| encoding.codec.kind())
    }

    /// One packet to everybody who gets it.
    fn forward(&mut self, now: Instant, key: u64, kind: MediaKind, media: &Media) {
        let Some(line) = self.lines.get(&key) else { return };
        let (room, participant) = (line.room, line.participant);
        self.work.is_for(room);
        let Some(hosted) = self.rooms.get_mut(&room) else { return };
        let Some(producer) = hosted.room.source(participant, media.ssrc()) else { return };
        self.counters.received(kind, media.payload().len());
        if producer.encoding.payload_type != media.payload_type() {
            let Some(encoding) = line.peer.encoding(media.payload_type()) else { return };
            if encoding.codec.kind() != producer.info.kind {
                return;
            }
            if hosted.room.recode(now, participant, media.ssrc(), encoding) {
                self.settle(now, room);
            }
            return;
        }
        let mut packet = producer.read(media.ssrc(), media.seq(), media.timestamp(), media.payload());
        if let Some(frame) = packet.frame.as_mut().filter(|_| producer.encoding.codec == Codec::Av1) {
            frame.number = media.frame_number();
        }
        if producer.accept(now, &packet, media.payload()) != Arrival::Fresh {
            self.counters.duplicates += u64::from(!media.is_repeat());
            return;
        }
        if producer.is_held() {
            return;
        }
        if let Some(loudness) = media.loudness() {
            producer.note_loudness(loudness);
        }
        let codec = producer.encoding.codec;
        // Consumers that switched layers together share the payload rewritten for them.
        let mut shifted = (Shift::default(), media.payload().clone());
        let mut twice = Twice::default();
        let listeners = if producer.rests() { &mut [] } else { &mut producer.consumers[..] };
        for consumer in listeners {
            let outlet = consumer.outlet;
            let Some(line) = self.lines.get_mut(&outlet.peer).filter(|line| line.peer.is_open(outlet.lane)) else {
                continue;
            };
            // What came while it was not to hear anything is not in its first packet.
            let flowed = consumer.flows();
            let Some(out) = consumer.forward(now, &packet) else { continue };
            if shifted.0 != out.shift {
                shifted = (out.shift, out.shift.apply(codec, media.payload()));
            }
            if out.part == Part::Number {
                line.peer.write_empty(now, outlet.lane, out);
            } else if flowed
                && let Some((form, plain)) = line.peer.redundancy(outlet.lane)
                && let Some(twice) = twice.of(&producer.repeater, plain, &packet, media.payload())
            {
                line.peer.write(now, outlet.lane, out, media, Form::Twice(form, &twice));
            } else {
                line.peer.write(now, outlet.lane, out, media, Form::Plain(&shifted.1));
            }
            self.counters.forwarded(kind, media.payload().len());
            if !line.is_dirty {
                line.is_dirty = true;
                self.dirty.push(outlet.peer);
            }
        }
        if kind == MediaKind::Audio {
            producer.repeater.remember(packet.seq, packet.timestamp, media.payload());
        }
        let track = producer.track;
        if hosted.taps.is_empty() || !producer.is_in_programme() {
            return;
        }
        let Some(Tap { out, report }) = producer.tap(now, &packet) else { return };
        let Some(packet) = media.to_bytes(codec, out) else { return };
        for tap in &hosted.taps {
            if let Some((ntp, rtp)) = report {
                let sent = tap.media.try_send(TapMedia::SenderReport { track, ntp, rtp });
                self.counters.tap_dropped += u64::from(sent.is_err());
            }
            let tapped = TappedPacket { track, arrival_us: self.arrival_us, packet: packet.clone() };
            let sent = tap.media.try_send(TapMedia::Packet(tapped));
            self.counters.tap_dropped += u64::from(sent.is_err());
        }
    }

    /// Collects the datagrams of touched peers and sets their timers anew.
    fn flush(&mut self, now: Instant) {
        for key in std::mem::take(&mut self.dirty) {
            let Some(line) = self.lines.get_mut(&key) else { continue };
            self.work.is_for(line.room);
            line.is_dirty = false;
            while let Some((to, datagram)) = line.peer.poll_transmit() {
                self.demux.sent(key, to, &datagram);
                match to.protocol {
                    Protocol::Udp => self.outbox.push((to.address, datagram)),
                    Protocol::Tcp => self.tcp_outbox.push((to.address, datagram)),
                }
            }
            // Writing arms no timer but that of the reports, and those are a second apart.
            if !std::mem::take(&mut line.is_touched) && line.timer.is_some_and(|at| at <= now + REPORTS) {
                continue;
            }
            let timer = line.peer.poll_timeout();
            if timer != line.timer {
                line.timer = timer;
                if let Some(at) = timer {
                    self.timers.push(Reverse((at, key)));
                }
            }
        }
    }

    /// Keeps the buffer for the next turn.
    fn recycle(&mut self, mut media: Vec<(u64, Media)>) {
        media.clear();
        if self.media.is_empty() {
            self.media = media;
        }
    }
}
