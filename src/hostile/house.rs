//! A whole worker with one participant who does anything: datagrams, descriptions and requests of any kind, beside a quiet room.

use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use aws_lc_rs::hmac;
use tokio::sync::mpsc;

use crate::driver::rtc::bare::Bare;
use crate::hostile::media;
use crate::hostile::sdp;
use crate::hostile::tape::Tape;
use crate::live::rooms::Change;
use crate::live::rooms::Event;
use crate::live::rooms::Newcomer;
use crate::live::rooms::Request;
use crate::live::rooms::TrackSource;
use crate::live::rooms::Transport;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::id::RoomId;
use crate::model::media::Codec;
use crate::model::role::RoomRole;

/// Steps taken of one tape: a transport costs a handshake's worth of work to make.
const MOST_STEPS: usize = 48;

struct House {
    worker: Bare,
    now: Instant,
    room: RoomId,
    mallory: ParticipantId,
    events: mpsc::Receiver<Event>,
    /// What the last answer of the worker let in: user fragment and password.
    credentials: Option<(String, String)>,
    producers: Vec<ProducerId>,
    offer_id: u32,
}

fn name(text: &str) -> RoomId {
    text.parse().expect("a slug")
}

fn newcomer(participant: ParticipantId, name: &str) -> Newcomer {
    let user = name.to_lowercase().parse().expect("a user");
    Newcomer { participant, user, name: name.to_owned(), role: RoomRole::Musician }
}

fn enter(worker: &mut Bare, now: Instant, room: &RoomId) -> (ParticipantId, mpsc::Receiver<Event>) {
    let participant = ParticipantId::generate();
    let events = enter_as(worker, now, room, participant);
    (participant, events)
}

fn enter_as(worker: &mut Bare, now: Instant, room: &RoomId, participant: ParticipantId) -> mpsc::Receiver<Event> {
    let newcomer = newcomer(participant, "Somebody");
    let (sender, events) = mpsc::channel(64);
    let joined = worker.ask(now, room, |reply| Request::Join { newcomer, events: sender, reply });
    assert!(matches!(joined, Some(Ok(_))), "the room has places");
    events
}

/// A binding request (RFC 8489): for somebody or nobody, authentic or not, whole or cut.
fn binding_request(tape: &mut Tape<'_>, credentials: Option<&(String, String)>) -> Vec<u8> {
    let (ufrag, password) = match credentials {
        Some((ufrag, password)) => (tape.mostly(ufrag), tape.mostly(password)),
        None => (tape.text(8), tape.text(24)),
    };
    let mut out = vec![0, if tape.byte() < 240 { 1 } else { tape.byte() }, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    out.extend([7; 12]);
    let username = format!("{ufrag}:theirs");
    let mut attribute = |out: &mut Vec<u8>, kind: u16, value: &[u8]| {
        let lie = if tape.byte() < 16 { tape.u16() } else { value.len() as u16 };
        out.extend(kind.to_be_bytes());
        out.extend(lie.to_be_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
    };
    attribute(&mut out, 0x0006, username.as_bytes());
    // PRIORITY, USE-CANDIDATE and ICE-CONTROLLING (RFC 8445 section 16.1).
    attribute(&mut out, 0x0024, &[0x6e, 0, 1, 0xff]);
    attribute(&mut out, 0x0025, &[]);
    attribute(&mut out, 0x802a, &[0; 8]);
    for (extra, with) in [(24, 0x0008_u16), (32, 0x8028)] {
        let length = (out.len() - 20 + extra.min(24)) as u16;
        out[2..4].copy_from_slice(&length.to_be_bytes());
        if with == 0x0008 {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
            let tag = hmac::sign(&key, &out);
            out.extend(with.to_be_bytes());
            out.extend([0, 20]);
            out.extend(tag.as_ref());
        }
    }
    let length = (out.len() - 20) as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
    if tape.byte() < 16 {
        out.truncate(tape.below(out.len() + 1));
    }
    out
}

impl House {
    fn open() -> Self {
        let mut worker = Bare::default();
        let now = Instant::now();
        let room = name("jam");
        let (mallory, events) = enter(&mut worker, now, &room);
        Self { worker, now, room, mallory, events, credentials: None, producers: Vec::new(), offer_id: 0 }
    }

    fn datagram(&mut self, tape: &mut Tape<'_>) {
        let from = SocketAddr::from(([127, 0, 0, 1], 10 + u16::from(tape.byte() & 3)));
        let bytes = match tape.below(6) {
            0..=2 => binding_request(tape, self.credentials.as_ref()),
            3 => media::packet(tape, Codec::Vp8, 96),
            4 => {
                // DTLS: a record header, and anything (RFC 9147 section 4).
                let mut record = vec![20 + tape.byte() % 7, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, tape.byte()];
                record.extend_from_slice(tape.bytes(200));
                record
            }
            _ => tape.bytes(300).to_vec(),
        };
        self.worker.receive(self.now, from, &bytes);
    }

    fn description(&mut self, tape: &mut Tape<'_>) {
        let (participant, text) = (self.mallory, sdp::offer(tape));
        let answer = match tape.below(4) {
            0 => {
                let offer_id = self.offer_id;
                self.worker.ask(self.now, &self.room, |reply| Request::Answer {
                    participant,
                    offer_id,
                    answer: text,
                    reply,
                });
                return;
            }
            1 => self.worker.ask(self.now, &self.room, |reply| Request::Subscribe { participant, offer: text, reply }),
            _ => self.worker.ask(self.now, &self.room, |reply| Request::Publish { participant, offer: text, reply }),
        };
        if let Some(Ok(answer)) = answer {
            let value = |name| answer.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            self.credentials = value("a=ice-ufrag:").zip(value("a=ice-pwd:"));
        }
    }

    fn request(&mut self, tape: &mut Tape<'_>) {
        let participant = self.mallory;
        let producer = self.producers.get(tape.below(4)).copied().unwrap_or_else(ProducerId::generate);
        let change = [Change::Pause, Change::Resume, Change::Close][tape.below(3)];
        let (now, room) = (self.now, &self.room);
        match tape.below(8) {
            0 => {
                let mid = tape.mostly("0");
                let source = TrackSource::Camera;
                let made = self.worker.ask(now, room, |reply| Request::Produce { participant, mid, source, reply });
                self.producers.extend(made.and_then(Result::ok));
            }
            1 => drop(self.worker.ask(now, room, |reply| Request::Consume { participant, producer, reply })),
            2 => drop(self.worker.ask(now, room, |reply| Request::RestartIce { participant, reply })),
            3 => {
                let set = |reply| Request::SetProducer { participant, producer, change, reply };
                self.worker.ask(now, room, set);
            }
            4 => {
                let consumer = ConsumerId::generate();
                self.worker.ask(now, room, |reply| Request::SetConsumer { participant, consumer, change, reply });
            }
            5 => {
                self.worker.tell(now, room, Request::Leave { participant });
                self.events = enter_as(&mut self.worker, now, room, participant);
            }
            _ => {
                let transport = if tape.flip() { Transport::Send } else { Transport::Recv };
                let candidate = sdp::candidate(tape);
                self.worker.ask(now, room, |reply| Request::Candidate { participant, transport, candidate, reply });
            }
        }
    }
}

/// Mallory does what the tape says; the room next door hears nothing of it and goes on.
///
/// # Panics
/// It does not.
pub fn house(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let mut house = House::open();
    let quiet = name("quiet");
    let (clara, mut clara_hears) = enter(&mut house.worker, house.now, &quiet);
    let (_dora, _dora_hears) = enter(&mut house.worker, house.now, &quiet);
    assert!(matches!(clara_hears.try_recv(), Ok(Event::ParticipantJoined(_))));
    let (_anna, _anna_hears) = enter(&mut house.worker, house.now, &house.room.clone());
    for _ in 0..MOST_STEPS {
        if tape.is_over() {
            break;
        }
        match tape.below(4) {
            0 => house.description(&mut tape),
            1 => house.request(&mut tape),
            2 => house.datagram(&mut tape),
            _ => house.now += Duration::from_millis(if tape.byte() < 8 { 20_000 } else { tape.byte().into() }),
        }
        for (to, datagram) in house.worker.turn(house.now) {
            assert!(datagram.len() <= 65_507, "{} bytes to {to} are no datagram", datagram.len());
        }
        while let Ok(event) = house.events.try_recv() {
            if let Event::Offer { offer_id, .. } = event {
                house.offer_id = offer_id;
            }
        }
    }
    assert!(clara_hears.try_recv().is_err(), "the quiet room heard of it");
    let newcomer = newcomer(clara, "Clara");
    let (events, _received) = mpsc::channel(8);
    let again = house.worker.ask(house.now, &quiet, |reply| Request::Join { newcomer, events, reply });
    assert_eq!(again.map(|joined| joined.map(|joined| joined.participants.len())), Some(Ok(1)), "Dora is still there");
    assert!(house.worker.participants() >= 3, "Anna, Clara and Dora did nothing");
}
