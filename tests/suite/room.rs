//! The SFU over loopback, with real WebRTC peers as musicians.

mod delays;
mod flood;
mod moderation;
mod musician;
mod tcp;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jamcast::driver::rtc;
use jamcast::live::rooms::Change;
use jamcast::live::rooms::ConsumerInfo;
use jamcast::live::rooms::Event;
use jamcast::live::rooms::Newcomer;
use jamcast::live::rooms::Request;
use jamcast::live::rooms::RoomError;
use jamcast::live::rooms::Rooms;
use jamcast::live::rooms::TapMedia;
use jamcast::live::rooms::TrackSource;
use jamcast::live::rooms::Transport;
use jamcast::model::id::ParticipantId;
use jamcast::model::id::ProducerId;
use jamcast::model::id::RoomId;
use jamcast::model::role::RoomRole;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use musician::AUDIO;
use musician::Musician;
use musician::PATIENCE;
use musician::VIDEO;

struct House {
    rooms: Rooms,
    room: RoomId,
    workers: rtc::Workers,
    _shutdown: DropGuard,
}

/// Somebody in the room, with the signalling a browser would have.
struct Guest {
    id: ParticipantId,
    events: mpsc::Receiver<Event>,
}

impl House {
    fn open() -> Self {
        Self::with(rtc::Config { bind: [127, 0, 0, 1].into(), ..rtc::Config::default() })
    }

    fn with(config: rtc::Config) -> Self {
        let config = rtc::Config { workers: 1, ..config };
        let shutdown = CancellationToken::new();
        let (rooms, workers) = rtc::start(&config, &shutdown).expect("a free port");
        Self { rooms, room: "jam".parse().expect("a slug"), workers, _shutdown: shutdown.drop_guard() }
    }

    async fn enter(&self, name: &str) -> Guest {
        let id = ParticipantId::generate();
        let newcomer = Newcomer {
            participant: id,
            user: name.parse().expect("a user"),
            name: name.to_owned(),
            role: RoomRole::Musician,
        };
        let (sender, events) = mpsc::channel(256);
        self.rooms.ask(&self.room, |reply| Request::Join { newcomer, events: sender, reply }).await.expect("room");
        Guest { id, events }
    }

    async fn publish(&self, guest: &Guest, musician: &mut Musician) -> String {
        let participant = guest.id;
        let offer = musician.offer().await;
        let answer = self.rooms.ask(&self.room, |reply| Request::Publish { participant, offer, reply }).await;
        let answer = answer.expect("acceptable");
        musician.accept(answer.clone()).await;
        answer
    }

    async fn produce(&self, guest: &Guest, mid: &str, source: TrackSource) -> Result<ProducerId, RoomError> {
        let (participant, mid) = (guest.id, mid.to_owned());
        self.rooms.ask(&self.room, |reply| Request::Produce { participant, mid, source, reply }).await
    }

    /// A musician who plays microphone and camera.
    async fn perform(&self, guest: &Guest) -> (Musician, ProducerId, ProducerId) {
        let mut musician = Musician::new().await;
        musician.play().await;
        self.publish(guest, &mut musician).await;
        let microphone = self.produce(guest, "0", TrackSource::Microphone).await.expect("an audio m-line");
        let camera = self.produce(guest, "1", TrackSource::Camera).await.expect("a video m-line");
        musician.wait_connected().await;
        (musician, microphone, camera)
    }

    /// Consumes these producers, answering every offer meanwhile.
    async fn consume(&self, guest: &mut Guest, ear: &mut Musician, producers: &[ProducerId]) -> Vec<ConsumerInfo> {
        let participant = guest.id;
        let mut consumers = Vec::new();
        for producer in producers.iter().copied() {
            let consumer = self.rooms.ask(&self.room, |reply| Request::Consume { participant, producer, reply }).await;
            consumers.push(consumer.expect("consumable"));
            self.negotiate(guest, ear).await;
        }
        consumers
    }

    /// Answers the next offer; gives it back.
    async fn negotiate(&self, guest: &mut Guest, ear: &mut Musician) -> String {
        let participant = guest.id;
        let (offer_id, sdp) = guest.wait_for_offer().await;
        let answer = ear.answer(&sdp).await;
        let answered =
            self.rooms.ask(&self.room, |reply| Request::Answer { participant, offer_id, answer, reply }).await;
        assert_eq!(answered, Ok(()));
        sdp
    }
}

impl Guest {
    async fn wait_for_offer(&mut self) -> (u32, String) {
        let offer = |event| if let Event::Offer { offer_id, sdp } = event { Some((offer_id, sdp)) } else { None };
        self.wait_for(offer).await
    }

    async fn wait_for<T>(&mut self, wanted: impl Fn(Event) -> Option<T>) -> T {
        let search = async {
            while let Some(event) = self.events.recv().await {
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
            panic!("the room closed the events");
        };
        tokio::time::timeout(PATIENCE, search).await.expect("the event comes in time")
    }
}

fn assert_continuous(packets: &[musician::Heard]) {
    let numbers: Vec<u16> = packets.iter().map(|packet| packet.header.sequence_number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_musicians_hear_each_other() {
    let house = House::open();
    let mut anna = house.enter("Anna").await;
    let mut ben = house.enter("Ben").await;
    let (anna_plays, anna_microphone, anna_camera) = house.perform(&anna).await;
    let (_ben_plays, ben_microphone, ben_camera) = house.perform(&ben).await;
    let mut anna_hears = Musician::new().await;
    let mut ben_hears = Musician::new().await;
    let consumers = house.consume(&mut anna, &mut anna_hears, &[ben_microphone, ben_camera]).await;
    assert_eq!(consumers.iter().map(|consumer| consumer.mid.as_str()).collect::<Vec<_>>(), ["0", "1"]);
    house.consume(&mut ben, &mut ben_hears, &[anna_microphone, anna_camera]).await;
    for ear in [&mut anna_hears, &mut ben_hears] {
        assert_continuous(&ear.hear(AUDIO, 25).await);
        let video = ear.hear(VIDEO, 20).await;
        assert_continuous(&video);
    }

    // Nobody asks in the first half second after a request; then a lost picture reaches the camera.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let before = anna_plays.keyframe_requests.load(Ordering::SeqCst);
    assert!(before >= 1, "a keyframe was asked for when Ben joined");
    for _ in 0..5 {
        ben_hears.lose_picture().await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = anna_plays.keyframe_requests.load(Ordering::SeqCst) - before;
    assert_eq!(asked, 1, "five pleas are one request");

    let participant = ben.id;
    house.rooms.tell(&house.room, Request::Leave { participant });
    let left = async {
        anna.wait_for(|event| (event == Event::ParticipantLeft(participant)).then_some(())).await;
    };
    tokio::time::timeout(Duration::from_secs(2), left).await.expect("leaving is seen at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tap_hears_everything_and_knows_the_clock() {
    let house = House::open();
    let anna = house.enter("Anna").await;
    let (anna_plays, _, camera) = house.perform(&anna).await;
    let mut tap = house.rooms.ask(&house.room, |reply| Request::Tap { reply }).await.expect("a tap");
    let roster = tap.roster.borrow_and_update().clone();
    assert_eq!(roster.participants.len(), 1);
    assert_eq!(roster.tracks.iter().map(|track| track.payload_type).collect::<Vec<_>>(), [AUDIO, VIDEO]);
    let track = roster.tracks.iter().find(|track| track.producer == camera).expect("the camera").track;
    let before = anna_plays.keyframe_requests.load(Ordering::SeqCst);
    house.rooms.tell(&house.room, Request::Keyframe { track });

    let (mut packets, mut reports, mut last_arrival) = (Vec::new(), 0, 0);
    let listen = async {
        while packets.len() < 100 || reports == 0 {
            match tap.media.recv().await.expect("the room is open") {
                TapMedia::Packet(packet) => {
                    assert!(packet.arrival_us >= last_arrival);
                    last_arrival = packet.arrival_us;
                    packets.push(packet);
                }
                TapMedia::SenderReport { ntp, .. } => {
                    assert_ne!(ntp, 0);
                    reports += 1;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, listen).await.expect("packets and a report come");
    let video = packets.iter().find(|packet| packet.track == track).expect("video comes");
    assert_eq!(video.packet[0], 0x80, "version 2, no padding, no extension");
    assert_eq!(video.packet[1] & 0x7f, VIDEO);
    assert_eq!(video.packet.len(), 16);
    assert!(anna_plays.keyframe_requests.load(Ordering::SeqCst) > before, "the plea reached the camera");

    house.rooms.tell(&house.room, Request::Leave { participant: anna.id });
    let empty = tap.roster.wait_for(|roster| roster.participants.is_empty() && roster.tracks.is_empty());
    tokio::time::timeout(PATIENCE, empty).await.expect("the roster follows").expect("the tap is open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_by_its_own_offer_hears_who_is_there_and_who_comes() {
    let house = House::open();
    let listener = house.enter("Listener").await;
    let mut ear = Musician::new().await;
    ear.listen().await;
    let (participant, offer) = (listener.id, ear.offer().await);
    let answer = house.rooms.ask(&house.room, |reply| Request::Subscribe { participant, offer, reply }).await;
    ear.accept(answer.expect("acceptable")).await;
    ear.wait_connected().await;

    let anna = house.enter("Anna").await;
    let (_plays, _, _) = house.perform(&anna).await;
    let first = ear.hear(AUDIO, 10).await;
    ear.hear(VIDEO, 10).await;
    house.rooms.tell(&house.room, Request::Leave { participant: anna.id });
    let ben = house.enter("Ben").await;
    let (_plays, _, _) = house.perform(&ben).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let second = ear.hear(AUDIO, 50).await;
    assert_eq!(first[0].header.ssrc, second[0].header.ssrc, "the same m-line goes on");
    let all: Vec<_> = first.into_iter().chain(second).collect();
    let steps = all.windows(2).map(|p| p[1].header.sequence_number.wrapping_sub(p[0].header.sequence_number));
    assert!(steps.max().expect("packets") < 40, "the numbers go on as well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn music_is_asked_for_in_stereo_in_both_directions() {
    let house = House::open();
    let anna = house.enter("Anna").await;
    let mut plays = Musician::new().await;
    plays.play().await;
    let answer = house.publish(&anna, &mut plays).await;
    assert!(answer.contains("stereo=1;sprop-stereo=1;maxaveragebitrate=256000"), "{answer}");
    let microphone = house.produce(&anna, "0", TrackSource::Microphone).await.expect("an audio m-line");

    let mut ben = house.enter("Ben").await;
    let mut ear = Musician::new().await;
    let participant = ben.id;
    let consumer = house.rooms.ask(&house.room, |reply| Request::Consume { participant, producer: microphone, reply });
    consumer.await.expect("consumable");
    let offer = house.negotiate(&mut ben, &mut ear).await;
    assert!(offer.contains("stereo=1"), "{offer}");
    assert!(offer.contains("a=sendonly"), "{offer}");
    assert!(!offer.contains("rtx"), "{offer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ice_restart_changes_nothing_but_the_path() {
    let house = House::open();
    let anna = house.enter("Anna").await;
    let mut ben = house.enter("Ben").await;
    let (mut plays, microphone, _) = house.perform(&anna).await;
    let mut ear = Musician::new().await;
    house.consume(&mut ben, &mut ear, &[microphone]).await;
    ear.hear(AUDIO, 10).await;

    plays.pc.restart_ice().await.expect("restarts");
    house.publish(&anna, &mut plays).await;
    assert_eq!(house.produce(&anna, "0", TrackSource::Microphone).await, Ok(microphone), "still the same producer");
    let participant = ben.id;
    let restarted = house.rooms.ask(&house.room, |reply| Request::RestartIce { participant, reply }).await;
    assert_eq!(restarted, Ok(()));
    house.negotiate(&mut ben, &mut ear).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    while ear.heard.try_recv().is_ok() {}
    let after = ear.hear(AUDIO, 25).await;
    assert_continuous(&after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn music_flows_both_ways_over_ice_lite() {
    let house = House::with(rtc::Config { ice_lite: true, bind: [127, 0, 0, 1].into(), ..rtc::Config::default() });
    let anna = house.enter("Anna").await;
    let mut ben = house.enter("Ben").await;
    let mut plays = Musician::new().await;
    plays.play().await;
    let answer = house.publish(&anna, &mut plays).await;
    assert!(answer.contains("a=ice-lite"), "{answer}");
    let microphone = house.produce(&anna, "0", TrackSource::Microphone).await.expect("an audio m-line");
    let camera = house.produce(&anna, "1", TrackSource::Camera).await.expect("a video m-line");
    let mut ear = Musician::new().await;
    house.consume(&mut ben, &mut ear, &[microphone, camera]).await;
    assert_continuous(&ear.hear(AUDIO, 25).await);
    assert_continuous(&ear.hear(VIDEO, 20).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_socket_serves_both_families() {
    let both = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
    let bind = Ipv6Addr::UNSPECIFIED.into();
    let house = House::with(rtc::Config { bind, announced_ips: both, ..rtc::Config::default() });
    let anna = house.enter("Anna").await;
    let mut ben = house.enter("Ben").await;
    let mut plays = Musician::at("[::1]:0").await;
    plays.play().await;
    house.publish(&anna, &mut plays).await;
    let microphone = house.produce(&anna, "0", TrackSource::Microphone).await.expect("an audio m-line");
    plays.wait_connected().await;
    let mut ear = Musician::new().await;
    house.consume(&mut ben, &mut ear, &[microphone]).await;
    assert_continuous(&ear.hear(AUDIO, 25).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_track_leaves_its_m_line_to_the_next() {
    let house = House::open();
    let anna = house.enter("Anna").await;
    let carla = house.enter("Carla").await;
    let mut ben = house.enter("Ben").await;
    let (_anna_plays, anna_microphone, anna_camera) = house.perform(&anna).await;
    let (_carla_plays, carla_microphone, _) = house.perform(&carla).await;
    let mut ear = Musician::new().await;
    let first = house.consume(&mut ben, &mut ear, &[anna_microphone, anna_camera]).await;
    let before = ear.hear(AUDIO, 10).await;

    let (participant, producer) = (anna.id, anna_microphone);
    let close = |reply| Request::SetProducer { participant, producer, change: Change::Close, reply };
    assert_eq!(house.rooms.ask(&house.room, close).await, Ok(()));
    let closed = first[0].id;
    ben.wait_for(|event| (event == Event::ConsumerClosed(closed)).then_some(())).await;
    let offer = house.negotiate(&mut ben, &mut ear).await;
    assert!(offer.contains("a=inactive"), "{offer}");
    ear.hear(VIDEO, 30).await;
    while ear.heard.try_recv().is_ok() {}

    let second = house.consume(&mut ben, &mut ear, &[carla_microphone]).await;
    assert_eq!(second[0].mid, first[0].mid);
    let after = ear.hear(AUDIO, 10).await;
    assert_continuous(&after);
    assert_eq!(after[0].header.ssrc, before[0].header.ssrc);

    let (participant, consumer) = (ben.id, second[0].id);
    for (change, hears) in [(Change::Pause, false), (Change::Resume, true)] {
        let set = |reply| Request::SetConsumer { participant, consumer, change, reply };
        assert_eq!(house.rooms.ask(&house.room, set).await, Ok(()));
        tokio::time::sleep(Duration::from_millis(200)).await;
        while ear.heard.try_recv().is_ok() {}
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut heard = std::iter::from_fn(|| ear.heard.try_recv().ok());
        assert_eq!(heard.any(|packet| packet.header.payload_type == AUDIO), hears);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_closes_is_seen_at_once() {
    let house = House::open();
    let mut ben = house.enter("Ben").await;
    let mut anna = house.enter("Anna").await;
    let (plays, microphone, _) = house.perform(&anna).await;
    plays.pc.close().await.expect("closes");
    let seen = async {
        ben.wait_for(|event| (event == Event::ProducerRemoved(microphone)).then_some(())).await;
        anna.wait_for(|event| (event == Event::TransportFailed(Transport::Send)).then_some(())).await;
    };
    tokio::time::timeout(Duration::from_secs(3), seen).await.expect("long before ICE gives up");

    let (_again, new_microphone, _) = house.perform(&anna).await;
    assert_ne!(new_microphone, microphone, "she comes back with a new page");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_video_is_asked_for_again_without_a_storm() {
    let house = House::open();
    let anna = house.enter("Anna").await;
    let path = LossyPath::open(house.workers.addresses()[0]);
    let mut plays = Musician::new().await;
    plays.play().await;
    let (participant, offer) = (anna.id, plays.offer().await);
    // What comes through the path only: the musician's own candidates would lead around it.
    let offer: String =
        offer.lines().filter(|line| !line.starts_with("a=candidate")).flat_map(|line| [line, "\r\n"]).collect();
    let answer = house.rooms.ask(&house.room, |reply| Request::Publish { participant, offer, reply }).await;
    let answer = answer.expect("acceptable");
    let port = house.workers.addresses()[0].port().to_string();
    plays.accept(answer.replace(&format!(" {port} typ"), &format!(" {} typ", path.port))).await;
    house.produce(&anna, "1", TrackSource::Camera).await.expect("a video m-line");
    plays.wait_connected().await;
    let mut tap = house.rooms.ask(&house.room, |reply| Request::Tap { reply }).await.expect("a tap");

    let mut numbers = BTreeSet::new();
    let mut copies = 0;
    let listen = async {
        while numbers.len() < 150 {
            if let Some(TapMedia::Packet(tapped)) = tap.media.recv().await {
                let seq = u16::from_be_bytes([tapped.packet[2], tapped.packet[3]]);
                copies += u32::from(!numbers.insert(seq));
            }
        }
    };
    tokio::time::timeout(PATIENCE, listen).await.expect("video comes");
    assert_eq!(copies, 0, "no packet is forwarded twice");
    // The newest may still be on their second way.
    let settled: Vec<u16> = numbers.iter().copied().take(130).collect();
    assert!(settled.windows(2).all(|pair| pair[1] == pair[0] + 1), "all losses are repaired: {settled:?}");
    let (dropped, repeated) = (path.dropped.load(Ordering::SeqCst), path.repeated.load(Ordering::SeqCst));
    assert!(dropped >= 5, "the path lost only {dropped}");
    assert!(repeated <= 3 * dropped, "{repeated} retransmissions for {dropped} losses");
}

/// A relay that loses one in 20 video packets on the way to the SFU.
struct LossyPath {
    port: u16,
    dropped: Arc<AtomicU32>,
    repeated: Arc<AtomicU32>,
    relay: tokio::task::JoinHandle<()>,
}

impl LossyPath {
    fn open(sfu: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_nonblocking(true).expect("a socket");
        let port = socket.local_addr().expect("bound").port();
        let socket = tokio::net::UdpSocket::from_std(socket).expect("in a runtime");
        let (dropped, repeated) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (drops, repeats) = (Arc::clone(&dropped), Arc::clone(&repeated));
        let relay = tokio::spawn(async move {
            let mut seen = BTreeSet::new();
            let mut musician = None;
            let mut datagram = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
                let datagram = &datagram[..length];
                if from == sfu {
                    if let Some(musician) = musician {
                        let _lost = socket.send_to(datagram, musician).await;
                    }
                    continue;
                }
                musician = Some(from);
                if length > 12 && datagram[0] == 0x80 && datagram[1] & 0x7f == VIDEO {
                    let seq = u16::from_be_bytes([datagram[2], datagram[3]]);
                    if !seen.insert(seq) {
                        repeats.fetch_add(1, Ordering::SeqCst);
                    } else if seq % 20 == 7 {
                        drops.fetch_add(1, Ordering::SeqCst);
                        continue;
                    }
                }
                let _lost = socket.send_to(datagram, sfu).await;
            }
        });
        Self { port, dropped, repeated, relay }
    }
}

impl Drop for LossyPath {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_and_forgery_trouble_nobody() {
    let house = House::open();
    let anna = house.enter("Anna").await;
    let mallory = house.enter("Mallory").await;
    let (_plays, ..) = house.perform(&anna).await;
    let mut tap = house.rooms.ask(&house.room, |reply| Request::Tap { reply }).await.expect("a tap");

    for offer in ["", "v=0\r\n", "m=audio", "v=0\r\nm=audio 9 RTP/AVP 0\r\na=mid:\u{0}\r\n"] {
        let (participant, offer) = (mallory.id, offer.to_owned());
        let refused = house.rooms.ask(&house.room, |reply| Request::Publish { participant, offer, reply }).await;
        assert!(refused.is_err(), "{refused:?}");
    }
    let participant = mallory.id;
    let candidate = "1 1 udp 1 127.0.0.1 9 typ host".to_owned();
    let early = Request::Candidate {
        participant,
        transport: Transport::Send,
        candidate,
        reply: tokio::sync::oneshot::channel().0,
    };
    house.rooms.tell(&house.room, early);
    assert_eq!(house.produce(&mallory, "0", TrackSource::Camera).await, Err(RoomError::UnknownMid("0".to_owned())));
    let nobody = Guest { id: ParticipantId::generate(), events: mpsc::channel(1).1 };
    assert_eq!(house.produce(&nobody, "0", TrackSource::Camera).await, Err(RoomError::NotJoined));

    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    for length in 0..300u16 {
        let noise: Vec<u8> = (0..length).map(|n| (n.wrapping_mul(31) ^ length) as u8).collect();
        socket.send_to(&noise, house.workers.addresses()[0]).expect("sent");
        let mut stun = vec![0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42];
        stun.extend(noise);
        socket.send_to(&stun, house.workers.addresses()[0]).expect("sent");
    }
    while tap.media.try_recv().is_ok() {}
    for _ in 0..50 {
        let packet = tokio::time::timeout(PATIENCE, tap.media.recv()).await.expect("the music goes on");
        assert!(packet.is_some());
    }
}
