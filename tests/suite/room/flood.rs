//! A listener that asks for far too much: it is served within bounds, and the others do not pay for it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::House;
use super::Musician;
use super::VIDEO;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_keyframe_requests_reaches_the_camera_as_a_few() {
    let house = House::open();
    let anna = house.enter("Anna").await;
    let mut mallory = house.enter("Mallory").await;
    let (plays, _, camera) = house.perform(&anna).await;
    let mut ear = Musician::new().await;
    house.consume(&mut mallory, &mut ear, &[camera]).await;
    ear.hear(VIDEO, 10).await;
    let before = plays.keyframe_requests.load(Ordering::SeqCst);
    let end = Instant::now() + Duration::from_secs(8);
    while Instant::now() < end {
        ear.lose_picture().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = plays.keyframe_requests.load(Ordering::SeqCst) - before;
    // Five at once and one in two seconds; without a limit of its own it would be two a second.
    assert!((1..=10).contains(&asked), "the camera was asked {asked} times in 8 s");
}
