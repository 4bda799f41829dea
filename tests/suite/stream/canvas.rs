//! A room's canvas in a running stream: in the scene while it is there, its frames to the mixer, its keyframes when one is needed.

use std::time::Duration;

use bytes::Bytes;
use jamcast::domain::layout::Kind;
use jamcast::domain::layout::Layout;
use jamcast::live::stream::Direction;
use jamcast::model::media::CanvasFormat;
use jamcast::model::media::CanvasFrame;
use jamcast::proto::mixer::CanvasStroke;
use jamcast::proto::mixer::FromMixer;
use jamcast::proto::mixer::Report;
use tokio::time::timeout;

use crate::stream::ask;
use crate::stream::band;
use crate::stream::room;
use crate::stream::until;
use crate::stream::world;

fn frame(format: CanvasFormat) -> CanvasFrame {
    let data = Bytes::from(vec![3; 16 * 16 * 4]);
    CanvasFrame { format, key: true, width: 16, height: 16, timestamp_us: 9, data }
}

#[tokio::test(start_paused = true)]
async fn a_canvas_comes_is_painted_and_goes() {
    let mut world = world();
    let (id, mut watch) = world.start(ask("jam")).await;
    let mut mixer = world.mixer().await;
    let tap = world.tap().await;
    tap.roster.send_replace(band(&["Ann", "Bob"]));
    mixer.scene(|scene| scene.sources.len() == 2).await;

    let brush = world.canvases.open(&room("jam"), "Ann").expect("free");
    let scene = mixer.scene(|scene| scene.sources.len() == 3).await;
    let canvas = scene.sources.last().expect("three").clone();
    assert!(canvas.canvas && canvas.placement.is_some() && canvas.video.is_none(), "{canvas:?}");
    brush.paint(5, &frame(CanvasFormat::Rgba));
    let painted = mixer.stroke().await;
    assert_eq!(painted, CanvasStroke { source: canvas.id, arrival_us: 5, frame: frame(CanvasFormat::Rgba) });
    drop(painted);
    assert!(brush.wishes().take().returned == 1, "the frame gives its credit back");

    let alone = Direction { layout: Some(Layout { kind: Kind::Canvas, ..Layout::default() }), ..Direction::default() };
    world.registry.direct(id, alone).await.expect("it runs");
    assert_eq!(
        until(&mut watch, |seen| seen.layout.canvas.is_some())
            .await
            .layout
            .canvas
            .map(|canvas| canvas.painter)
            .as_deref(),
        Some("Ann")
    );
    let scene =
        mixer.scene(|scene| scene.sources.iter().filter(|source| source.placement.is_some()).count() == 1).await;
    assert!(scene.sources[2].placement.is_some_and(|place| place.rect.width == 1280));

    drop(brush);
    let scene = mixer.scene(|scene| scene.sources.len() == 2).await;
    assert!(scene.sources.iter().all(|source| source.placement.is_some()), "the grid is back");
}

#[tokio::test(start_paused = true)]
async fn a_new_mixer_and_one_that_asks_get_a_keyframe() {
    let mut world = world();
    let brush = world.canvases.open(&room("jam"), "Ann").expect("free");
    let _running = world.start(ask("jam")).await;
    let mut first = world.mixer().await;
    let source = first.scene(|scene| scene.sources.len() == 1).await.sources[0].id;
    assert!(brush.wishes().take().keyframe);
    first.say(FromMixer::Report(Report::CanvasKeyframeWanted { source })).await;
    timeout(Duration::from_secs(5), async {
        while !brush.wishes().take().keyframe {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the wish is passed on");
    drop(first);
    let mut second = world.mixer().await;
    assert!(second.scene(|scene| scene.sources.len() == 1).await.sources[0].canvas);
    assert!(brush.wishes().take().keyframe);
}
