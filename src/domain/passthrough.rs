//! Whose picture, as it comes, is the whole programme: nothing beside it, nothing over it, nothing done to it.

use crate::model::id::SourceId;
use crate::model::media::Codec;
use crate::model::scene::Look;
use crate::model::scene::Rect;
use crate::model::scene::Scene;
use crate::model::scene::Source;
use crate::model::spec::Passthrough;

/// The source that nothing has to be composed or encoded for, if there is one and the stream wants that.
///
/// This is what the scene says. Whether the picture that comes has the programme's size, rate and kind, only the mixer sees.
pub fn candidate(scene: &Scene) -> Option<SourceId> {
    let programme = &scene.programme;
    let bare = scene.dressing.title.is_none() && scene.dressing.logo.is_none();
    if programme.passthrough == Passthrough::Off || !bare {
        return None;
    }
    let mut shown = scene.sources.iter().filter_map(|source| Some((source, source.placement?.rect)));
    let (source, rect) = shown.next()?;
    let whole = Rect { x: 0, y: 0, width: programme.width, height: programme.height };
    (shown.next().is_none() && rect == whole && is_untouched(source)).then_some(source.id)
}

fn is_untouched(source: &Source) -> bool {
    let h264 = source.video.is_some_and(|video| video.codec == Codec::H264);
    h264 && !source.canvas && source.caption.is_none() && source.look == Look::default()
}

#[cfg(test)]
mod tests {
    use crate::model::id::TrackId;
    use crate::model::scene::Placement;
    use crate::model::scene::SourceTrack;
    use crate::model::spec::ProgrammeSpec;

    use super::*;

    fn shown(id: u32, codec: Codec) -> Source {
        let video = Some(SourceTrack { track: TrackId(id), codec, payload_type: 96 });
        let placement = Some(Placement { rect: Rect { x: 0, y: 0, width: 1280, height: 720 }, z: 0 });
        Source { video, placement, ..Source::new(SourceId(id), "Ann") }
    }

    fn alone() -> Scene {
        let programme = ProgrammeSpec { passthrough: Passthrough::Auto, ..ProgrammeSpec::default() };
        let heard = Source { placement: None, video: None, ..shown(1, Codec::H264) };
        Scene { programme, sources: vec![heard, shown(2, Codec::H264)], ..Scene::default() }
    }

    #[test]
    fn one_picture_over_everything_is_passed_through_whoever_else_is_heard() {
        assert_eq!(candidate(&alone()), Some(SourceId(2)));
    }

    #[test]
    fn a_picture_is_passed_through_whoever_keeps_it() {
        let kept = Scene { recording: Some("jam.mp4".to_owned()), preview: true, ..alone() };
        assert_eq!(candidate(&kept), Some(SourceId(2)));
    }

    #[test]
    fn whatever_must_be_drawn_is_composed() {
        let changes: [fn(&mut Scene); 11] = [
            |scene| scene.programme.passthrough = Passthrough::Off,
            |scene| scene.sources.push(shown(3, Codec::Vp8)),
            |scene| scene.sources.push(Source { canvas: true, video: None, ..shown(3, Codec::Vp8) }),
            |scene| scene.sources[1] = shown(2, Codec::Vp8),
            |scene| scene.sources[1].caption = Some("Ann".to_owned()),
            |scene| scene.sources[1].look.mirror = true,
            |scene| scene.sources[1].look.crop = [0.1, 0.0, 0.0, 0.0],
            |scene| scene.sources[1].placement = None,
            |scene| scene.programme.width = 1920,
            |scene| scene.dressing.title = Some("Jam".to_owned()),
            |scene| scene.dressing.logo = Some("PNG".to_owned()),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut scene = alone();
            change(&mut scene);
            assert_eq!(candidate(&scene), None, "change {n}");
        }
    }
}
