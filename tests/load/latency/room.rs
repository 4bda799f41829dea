//! A room full of participants that send as they are told and note what they hear.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::bail;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::TrackLocalEvent;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::media_stream::track_remote::TrackRemoteEvent;

use crate::latency::media::Flow;
use crate::latency::media::Kind;
use crate::latency::media::Orders;
use crate::latency::media::Stamp;
use crate::latency::network::Network;
use crate::latency::tally::Notes;
use crate::latency::wire::BehindWire;
use crate::latency::wire::Post;
use crate::latency::wire::Wire;
use crate::musician::track;
use crate::peer;
use crate::peer::LOOPBACK;
use crate::peer::OPUS;
use crate::peer::Peer;
use crate::peer::Picture;
use crate::peer::VIDEO;
use crate::sfu::Sfu;
use crate::sockets::With;

/// How many there are and how much of each other they get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) participants: usize,
    /// The first so many have a camera, which everybody sees.
    pub(crate) cameras: usize,
    /// Everybody sends audio, and the first so many are heard by everybody.
    pub(crate) voices: usize,
}

impl Size {
    /// Whether this one is received by the others.
    pub(crate) fn is_received(&self, publisher: usize, kind: Kind) -> bool {
        match kind {
            Kind::Audio => publisher < self.voices,
            Kind::Video => publisher < self.cameras,
        }
    }
}

/// A clock that publishers and subscribers share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Duration {
        self.0.elapsed()
    }
}

type Notebook = Arc<Mutex<Notes>>;

/// A participant: one peer that sends and one that receives, behind one link.
struct Participant {
    wire: Arc<Wire>,
    orders: watch::Sender<Orders>,
    notes: Notebook,
    peers: Vec<Peer>,
    _playing: JoinSet<()>,
}

pub(crate) struct Room {
    pub(crate) size: Size,
    pub(crate) clock: Clock,
    participants: Vec<Participant>,
}

impl Room {
    /// Fills a room. Publishers come one after the other, because subscribers are given the oldest.
    pub(crate) async fn fill(sfu: &Sfu, post: &Post, size: Size) -> Result<Self> {
        let mut room = Self { size, clock: Clock::start(), participants: Vec::new() };
        for number in 0..size.participants {
            let token = sfu.token(&format!("Musician {number}"), "musician").await?;
            let (mut participant, mut peer) =
                Participant::new(&token, sfu.address(), post, room.clock, number, size).await?;
            sfu.publish(&mut peer).await?;
            participant.peers.push(peer);
            room.participants.push(participant);
        }
        for participant in &mut room.participants {
            let mut ears = participant.ears(&sfu.token("Ears", "viewer").await?, sfu.address(), post).await?;
            sfu.subscribe(&mut ears, size.voices, size.cameras).await?;
            participant.listen(ears, room.clock);
        }
        Ok(room)
    }

    /// The same generator with nobody in between: each one's peer sends straight to the next one's. What it takes is the floor of
    /// what a room takes.
    pub(crate) async fn connect_directly(post: &Post, size: Size) -> Result<Self> {
        let mut room = Self { size, clock: Clock::start(), participants: Vec::new() };
        let mut peers = Vec::new();
        for number in 0..size.participants {
            let (participant, peer) = Participant::new("", LOOPBACK, post, room.clock, number, size).await?;
            room.participants.push(participant);
            peers.push(peer);
        }
        for (number, mut peer) in peers.into_iter().enumerate() {
            let next = (number + 1) % size.participants;
            let mut ears = room.participants[next].ears("", LOOPBACK, post).await?;
            let answer = ears.answer(peer.offer().await?).await?;
            peer.accept(answer).await?;
            ears.wait_until_connected().await?;
            room.participants[next].listen(ears, room.clock);
            room.participants[number].peers.push(peer);
        }
        Ok(room)
    }

    /// Moves everybody to this network.
    pub(crate) fn plug_into(&self, network: &Network) {
        for (number, participant) in self.participants.iter().enumerate() {
            participant.wire.plug_into(network.access(number), number as u64 + 1);
        }
    }

    /// Tells each participant what to send.
    pub(crate) fn play(&self, orders: impl Fn(usize) -> Orders) {
        for (number, participant) in self.participants.iter().enumerate() {
            participant.orders.send_replace(orders(number));
        }
    }

    /// Takes what was noted since the last time.
    pub(crate) fn take_notes(&self) -> Vec<Notes> {
        self.participants.iter().map(|participant| std::mem::take(&mut *lock(&participant.notes))).collect()
    }

    /// Waits until everybody hears and sees all that it should: only then is what does not come lost.
    pub(crate) async fn wait_until_complete(&self) -> Result<()> {
        self.wait_until_heard(|_, _| true).await
    }

    /// The same of these paths from publisher to subscriber.
    pub(crate) async fn wait_until_heard(&self, counts: impl Fn(usize, usize) -> bool) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(30);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let paths = self.paths().filter(|(publisher, subscriber, _)| counts(*publisher, *subscriber));
            let missing = paths.filter(|path| !self.is_heard(*path)).count();
            if missing == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{missing} paths of the room are silent after {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn paths(&self) -> impl Iterator<Item = (usize, usize, Kind)> {
        let size = self.size;
        (0..size.participants).flat_map(move |publisher| {
            (0..size.participants).flat_map(move |subscriber| {
                [Kind::Audio, Kind::Video]
                    .into_iter()
                    .filter(move |kind| publisher != subscriber && size.is_received(publisher, *kind))
                    .map(move |kind| (publisher, subscriber, kind))
            })
        })
    }

    fn is_heard(&self, (publisher, subscriber, kind): (usize, usize, Kind)) -> bool {
        let notes = lock(&self.participants[subscriber].notes);
        notes.heard.iter().any(|(stamp, _)| usize::from(stamp.publisher) == publisher && stamp.kind == kind)
    }

    /// Everybody leaves.
    pub(crate) async fn clear(self, sfu: &Sfu) -> Result<()> {
        for participant in self.participants {
            for peer in participant.peers {
                sfu.dismiss(peer).await?;
            }
        }
        Ok(())
    }
}

impl Participant {
    /// A participant, and the peer by which it sends as soon as that is connected.
    async fn new(
        token: &str,
        address: &str,
        post: &Post,
        clock: Clock,
        number: usize,
        size: Size,
    ) -> Result<(Self, Peer)> {
        let wire = Arc::new(Wire::default());
        let sockets = BehindWire { wire: Arc::clone(&wire), post: post.clone() };
        let peer = Peer::at(Arc::new(With(sockets)), address, Picture::Vp8, token).await?;
        let mut tracks = vec![(Kind::Audio, track(RtpCodecKind::Audio, peer::opus()))];
        if size.is_received(number, Kind::Video) {
            tracks.push((Kind::Video, track(RtpCodecKind::Video, peer::picture(Picture::Vp8))));
        }
        for (_, local) in &tracks {
            peer.connection.add_track(Arc::clone(local) as Arc<dyn TrackLocal>).await?;
        }
        let (orders, obeyed) = watch::channel(Orders::default());
        let notes = Notebook::default();
        let mut playing = JoinSet::new();
        for (kind, local) in tracks {
            let is_key_wanted = Arc::new(AtomicBool::new(true));
            playing.spawn(listen_for_pleas(Arc::clone(&local), Arc::clone(&is_key_wanted)));
            let player = Player {
                publisher: u16::try_from(number)?,
                kind,
                // Not everybody's encoder is in step.
                head_start: Duration::from_micros(number as u64 * 7_919 % 33_333),
                clock,
                local,
                is_key_wanted,
                notes: Arc::clone(&notes),
                next: 0,
                last_header: rtc::rtp::Header::default(),
            };
            playing.spawn(player.play(obeyed.clone()));
        }
        Ok((Self { wire, orders, notes, peers: Vec::new(), _playing: playing }, peer))
    }

    /// The peer by which it receives.
    async fn ears(&self, token: &str, address: &str, post: &Post) -> Result<Peer> {
        let sockets = BehindWire { wire: Arc::clone(&self.wire), post: post.clone() };
        Peer::at(Arc::new(With(sockets)), address, Picture::Vp8, token).await
    }

    /// Notes what comes to its ears.
    fn listen(&mut self, mut peer: Peer, clock: Clock) {
        let (_, none) = mpsc::channel(1);
        let mut tracks = std::mem::replace(&mut peer.tracks, none);
        let notes = Arc::clone(&self.notes);
        self._playing.spawn(async move {
            let mut listening = JoinSet::new();
            while let Some(track) = tracks.recv().await {
                listening.spawn(note(track, clock, Arc::clone(&notes)));
            }
        });
        self.peers.push(peer);
    }
}

async fn listen_for_pleas(local: Arc<TrackLocalStaticRTP>, is_key_wanted: Arc<AtomicBool>) {
    while let Some(event) = local.poll().await {
        if let TrackLocalEvent::OnRtcpPacket(_) = event {
            is_key_wanted.store(true, Ordering::Relaxed);
        }
    }
}

/// Notes what comes on a track.
async fn note(track: Arc<dyn TrackRemote>, clock: Clock, notes: Notebook) {
    while let Some(event) = track.poll().await {
        if let TrackRemoteEvent::OnRtpPacket(packet) = event
            && let Some(stamp) = Stamp::read(&packet.payload)
        {
            let now = clock.now();
            lock(&notes).heard.push((stamp, now));
        }
    }
}

/// Plays one track of one participant.
struct Player {
    publisher: u16,
    kind: Kind,
    head_start: Duration,
    clock: Clock,
    local: Arc<TrackLocalStaticRTP>,
    is_key_wanted: Arc<AtomicBool>,
    notes: Notebook,
    next: u64,
    last_header: rtc::rtp::Header,
}

impl Player {
    /// As ordered, until nobody gives orders any more.
    async fn play(mut self, mut orders: watch::Receiver<Orders>) {
        let ssrc = self.local.track().await.codings().first().and_then(|c| c.rtp_coding_parameters.ssrc);
        let payload_type = match self.kind {
            Kind::Audio => OPUS,
            Kind::Video => VIDEO,
        };
        self.last_header =
            rtc::rtp::Header { version: 2, payload_type, ssrc: ssrc.unwrap_or_default(), ..self.last_header };
        loop {
            let ordered = *orders.borrow_and_update();
            let flow = match self.kind {
                Kind::Audio => ordered.audio,
                Kind::Video => ordered.video,
            };
            let changed = match flow {
                None => orders.changed().await,
                Some(flow) => tokio::select! {
                    changed = orders.changed() => changed,
                    () = self.keep_sending(flow) => return,
                },
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Ends when the track does.
    async fn keep_sending(&mut self, flow: Flow) {
        let begin = tokio::time::Instant::now() + self.head_start.min(flow.every);
        let mut ticks = tokio::time::interval_at(begin, flow.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            let due = ticks.tick().await;
            lock(&self.notes).lateness.push(due.elapsed());
            if self.send(flow).await.is_err() {
                return;
            }
        }
    }

    /// Sends one picture or piece of sound.
    async fn send(&mut self, flow: Flow) -> Result<(), webrtc::error::Error> {
        let now = self.clock.now();
        let clock_rate = match self.kind {
            Kind::Audio => 48_000,
            Kind::Video => 90_000,
        };
        let ticks = now.as_micros() * clock_rate / 1_000_000;
        self.last_header.timestamp = u32::try_from(ticks & u128::from(u32::MAX)).unwrap_or_default();
        let is_keyframe = self.is_key_wanted.swap(false, Ordering::Relaxed);
        for part in 0..flow.packets {
            let stamp = Stamp { publisher: self.publisher, kind: self.kind, number: self.next, sent: self.clock.now() };
            self.next += 1;
            self.last_header.sequence_number = self.last_header.sequence_number.wrapping_add(1);
            self.last_header.marker = part + 1 == flow.packets;
            let payload = stamp.payload(flow.bytes, part == 0, is_keyframe);
            lock(&self.notes).sent.push(stamp);
            self.local.write_rtp(rtc::rtp::Packet { header: self.last_header.clone(), payload }).await?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
