//! The playout delay as it is seen: whoever is far freezes at the beginning no more than later.

use jamcast::model::media::Codec;
use jamcast::model::scene::Scene;
use jamcast::proto::mixer::Report;

use crate::eyes::look;
use crate::gateway::Gateway;
use crate::gateway::scene;
use crate::gateway::source;
use crate::sender::play;
use crate::sender::video;

#[test]
fn a_far_musician_whose_link_loses_packets_moves_from_the_first_picture_on() {
    let mut gateway = Gateway::start();
    // Each picture is brighter than the one before; a tenth of the packets comes when it has been asked for.
    let mut camera = video(1, Codec::Vp8, [320, 180], 6000, |n| [40 + (n % 64) as u8 * 3, 128, 128]);
    camera.packets.iter_mut().skip(5).step_by(10).for_each(|(sent, _)| *sent += 340_000_000);
    let wanted = scene(vec![source(1, Some(&camera), None, [0, 0, 640, 360])]);
    gateway.show(&Scene { repair_ms: 340, ..wanted });
    play(&mut gateway, &[&camera], 6000, |_, _| false);
    let heard = gateway.finish();
    heard.assert_gapless();
    let brightness: Vec<u8> = look(&heard).iter().map(|picture| picture.at(320, 180)[0]).collect();
    let seen = brightness.iter().skip_while(|luma| **luma < 30).take(150).copied().collect::<Vec<_>>();
    assert_eq!(seen.len(), 150);
    let frozen = seen.windows(3).filter(|three| three[0].abs_diff(three[2]) < 2).count();
    assert_eq!(frozen, 0, "pictures of 100 ms: {seen:?}");
    let playout = |report: &Report| if let Report::Stats(stats) = report { Some(stats.playout_ms) } else { None };
    let began_ms = heard.reports.iter().find_map(playout);
    assert_eq!(began_ms, Some(400));
}
