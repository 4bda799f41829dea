//! Coming back after a broken line, and what a host decides, with media flowing.

use std::time::Duration;

use jamcast::live::rooms::Event;
use jamcast::live::rooms::Joined;
use jamcast::live::rooms::Order;
use jamcast::live::rooms::Request;
use jamcast::live::rooms::RoomError;
use jamcast::model::media::MediaKind;
use tokio::sync::mpsc;

use super::Guest;
use super::House;
use super::musician::AUDIO;
use super::musician::Musician;

/// Longer than anything that was under way takes to arrive.
const IN_FLIGHT: Duration = Duration::from_millis(300);

impl House {
    async fn rejoin(&self, guest: &mut Guest) -> Result<Joined, RoomError> {
        let (events, heard) = mpsc::channel(256);
        guest.events = heard;
        let participant = guest.id;
        self.rooms.ask(&self.room, |reply| Request::Rejoin { participant, events, reply }).await
    }

    /// As the gateway itself, which may everything.
    async fn order(&self, order: Order) {
        self.rooms.ask(&self.room, |reply| Request::Order { by: None, order, reply }).await.expect("allowed");
    }
}

impl Musician {
    /// Waits for sound that was not under way already.
    async fn hears_on(&mut self) {
        self.hears_what_was_under_way().await;
        self.hear(AUDIO, 5).await;
    }

    async fn hears_what_was_under_way(&mut self) {
        tokio::time::sleep(IN_FLIGHT).await;
        while self.heard.try_recv().is_ok() {}
    }

    /// Packets of sound in the next moment.
    async fn hears_now(&mut self) -> usize {
        self.hears_what_was_under_way().await;
        tokio::time::sleep(IN_FLIGHT).await;
        let heard = std::iter::from_fn(|| self.heard.try_recv().ok());
        heard.filter(|packet| packet.header.payload_type == AUDIO).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_signalling_broke_is_back_with_everything_and_nobody_has_seen_it_go() {
    let house = House::open();
    let mut anna = house.enter("Anna").await;
    let mut ben = house.enter("Ben").await;
    let (_plays, microphone, camera) = house.perform(&anna).await;
    let (_bens_plays, bens_microphone, _) = house.perform(&ben).await;
    let (mut anna_hears, mut ben_hears) = (Musician::new().await, Musician::new().await);
    let consumed = house.consume(&mut anna, &mut anna_hears, &[bens_microphone]).await;
    house.consume(&mut ben, &mut ben_hears, &[microphone]).await;
    ben_hears.hear(AUDIO, 5).await;
    while ben.events.try_recv().is_ok() {}

    anna.events.close();
    // The media goes on without the line.
    ben_hears.hears_on().await;
    let joined = house.rejoin(&mut anna).await.expect("her place is kept");
    let kept = joined.kept.expect("she was here");
    assert_eq!((kept.send, kept.recv), (true, true));
    assert_eq!(kept.producers.iter().map(|p| p.id).collect::<Vec<_>>(), [microphone, camera]);
    assert_eq!(kept.consumers, consumed, "with the m-lines that carry them");
    assert_eq!(joined.you.id, anna.id);
    assert_eq!(joined.participants.iter().map(|p| p.id).collect::<Vec<_>>(), [ben.id]);
    anna_hears.hears_on().await;
    let told: Vec<_> = std::iter::from_fn(|| ben.events.try_recv().ok()).collect();
    assert!(told.is_empty(), "{told:?}");

    house.order(Order::Kick(anna.id)).await;
    anna.wait_for(|event| matches!(event, Event::Removed { .. }).then_some(())).await;
    assert_eq!(house.rejoin(&mut anna).await.err(), Some(RoomError::NotJoined), "who was put out has no place");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_was_lost_with_the_line_is_told_again() {
    let house = House::open();
    let anna = house.enter("Anna").await;
    let (_plays, microphone, _) = house.perform(&anna).await;
    let mut ben = house.enter("Ben").await;
    let participant = ben.id;
    let consumer =
        house.rooms.ask(&house.room, |reply| Request::Consume { participant, producer: microphone, reply }).await;
    let consumer = consumer.expect("consumable");
    let joined = house.rejoin(&mut ben).await.expect("his place is kept");
    assert_eq!(joined.kept.expect("he was here").consumers, [consumer]);
    let mut ear = Musician::new().await;
    house.negotiate(&mut ben, &mut ear).await;
    ear.hear(AUDIO, 10).await;
    let again = house.rejoin(&mut ben).await.expect("his place is kept");
    assert!(again.kept.expect("he was here").recv);
    tokio::time::sleep(IN_FLIGHT).await;
    assert!(ben.events.try_recv().is_err(), "what is answered is not offered again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_muted_or_isolated_is_not_heard_by_the_others_nor_by_the_mixer() {
    let house = House::open();
    let anna = house.enter("Anna").await;
    let mut ben = house.enter("Ben").await;
    let (_plays, microphone, _) = house.perform(&anna).await;
    let mut ear = Musician::new().await;
    house.consume(&mut ben, &mut ear, &[microphone]).await;
    let mut tap = house.rooms.ask(&house.room, |reply| Request::Tap { reply }).await.expect("a tap");
    ear.hear(AUDIO, 5).await;
    let participant = anna.id;

    house.order(Order::Mute { participant, kind: MediaKind::Audio, muted: true }).await;
    assert_eq!(ear.hears_now().await, 0);
    house.order(Order::Mute { participant, kind: MediaKind::Audio, muted: false }).await;
    ear.hears_on().await;

    house.order(Order::Isolate { participant, isolated: true }).await;
    assert_eq!(ear.hears_now().await, 0);
    while tap.media.try_recv().is_ok() {}
    tokio::time::sleep(IN_FLIGHT).await;
    assert!(tap.media.try_recv().is_err(), "neither packets nor reports");
    assert!(tap.roster.borrow_and_update().tracks.is_empty());
    house.order(Order::Isolate { participant, isolated: false }).await;
    ear.hears_on().await;
    assert!(tap.media.try_recv().is_ok());
}
