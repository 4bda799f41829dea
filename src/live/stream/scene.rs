//! From who is in the room to what the programme shows: the roster as a scene.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::domain::desk;
use crate::domain::desk::Desk;
use crate::domain::layout::Attention;
use crate::domain::layout::Pick;
use crate::domain::passthrough;
use crate::live::rooms::ParticipantInfo;
use crate::live::rooms::Roster;
use crate::live::rooms::Size;
use crate::live::rooms::TapTrack;
use crate::live::rooms::TrackSource;
use crate::live::stream::direction::Staging;
use crate::model::id::ParticipantId;
use crate::model::id::SourceId;
use crate::model::id::TrackId;
use crate::model::media::MediaKind;
use crate::model::scene::Dressing;
use crate::model::scene::Look;
use crate::model::scene::Master;
use crate::model::scene::Placement;
use crate::model::scene::Scene;
use crate::model::scene::Source;
use crate::model::scene::SourceTrack;
use crate::model::spec::ProgrammeSpec;

/// Writes scenes and remembers which number each source has, so that a source keeps it for as long as it is there.
#[derive(Debug, Default)]
pub(super) struct Composer {
    numbers: BTreeMap<Seat, SourceId>,
    /// Of the canvas, while there is one.
    canvas: Option<SourceId>,
    next: u32,
}

/// What makes a source the same one in the next scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seat {
    participant: ParticipantId,
    kind: SeatKind,
    /// 0 for a participant's first camera and microphone; a second microphone is a source of its own and is heard as well.
    index: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SeatKind {
    Person,
    Screen,
}

impl Composer {
    /// The scene of this roster: everybody who sends something, in the order of joining, a shared screen after its owner.
    ///
    /// A paused picture is not placed and a paused sound is muted; both keep their tracks, so that they are back at once.
    pub(super) fn compose(
        &mut self,
        roster: &Roster,
        staging: &Staging,
        canvas: Option<&str>,
        programme: &ProgrammeSpec,
        recording: Option<String>,
    ) -> Scene {
        let desk = &staging.desk;
        let mut sources = Vec::new();
        let mut seated = BTreeSet::new();
        let present: Vec<_> = audience(roster, desk).collect();
        let ids: Vec<_> = present.iter().map(|(participant, _)| participant.id).collect();
        let delays = staging.alignment.delays_ms(desk, &ids);
        for ((participant, heard), delay_ms) in present.into_iter().zip(delays) {
            let strip = desk.strip(participant.id);
            for kind in [SeatKind::Person, SeatKind::Screen] {
                let of = |media| {
                    roster.tracks.iter().filter(move |track| {
                        track.participant == participant.id
                            && seat_kind(track.source) == kind
                            && track.codec.kind() == media
                    })
                };
                let (mut videos, mut audios) = (of(MediaKind::Video), of(MediaKind::Audio));
                for index in 0.. {
                    let (video, audio) = (videos.next(), audios.next());
                    if video.is_none() && audio.is_none() {
                        break;
                    }
                    let seat = Seat { participant: participant.id, kind, index };
                    seated.insert(seat);
                    let id = self.number(seat);
                    let label = label(participant, kind);
                    let source = Source {
                        caption: staging.dressing.captions.then(|| label.clone()),
                        look: match kind {
                            SeatKind::Person => staging.dressing.look(participant.id),
                            SeatKind::Screen => Look::default(),
                        },
                        gain: desk::linear(strip.gain_db),
                        muted: !heard || audio.is_some_and(|a| a.paused),
                        pan: strip.pan,
                        delay_ms,
                        ..source(id, label, video, audio)
                    };
                    let pick = Pick { participant: participant.id, screen: kind == SeatKind::Screen };
                    sources.push((source, video.is_some_and(|v| !v.paused).then_some(pick)));
                }
            }
        }
        self.numbers.retain(|seat, _| seated.contains(seat));
        let shown: Vec<Pick> = sources.iter().filter_map(|(_, pick)| *pick).collect();
        let at = Attention { spotlight: roster.spotlight, loudest: staging.speaker.loudest() };
        let (width, height) = (programme.width, programme.height);
        let (placements, canvas_place) = match canvas {
            Some(_) => staging.layout.arrange_with_canvas(&shown, at, width, height),
            None => (staging.layout.arrange(&shown, at, width, height), None),
        };
        let mut placements = placements.into_iter();
        let mut sources: Vec<Source> = sources
            .into_iter()
            .map(|(source, pick)| Source { placement: pick.and_then(|_| placements.next().flatten()), ..source })
            .collect();
        sources.extend(self.canvas_source(canvas, canvas_place));
        let master = Master { gain: desk::linear(desk.master.gain_db), normalise: desk.master.normalise };
        let dressing = Dressing {
            title: staging.dressing.title.clone(),
            logo: staging.dressing.logo.clone(),
            background: staging.dressing.background,
            backdrop: staging.dressing.backdrop.clone(),
        };
        let programme = programme.clone();
        let preview = roster.previewed;
        let scene = Scene { programme, master, dressing, sources, recording, preview, ..Scene::default() };
        Scene { passthrough: passthrough::candidate(&scene), ..scene }
    }

    fn canvas_source(&mut self, painter: Option<&str>, placement: Option<Placement>) -> Option<Source> {
        let Some(painter) = painter else {
            self.canvas = None;
            return None;
        };
        let id = self.canvas.unwrap_or_else(|| {
            self.next += 1;
            SourceId(self.next)
        });
        self.canvas = Some(id);
        Some(Source { placement, canvas: true, ..source(id, format!("{painter} (canvas)"), None, None) })
    }

    /// The canvas, while there is one.
    pub(super) const fn canvas(&self) -> Option<SourceId> {
        self.canvas
    }

    /// Whose source this is, and whether it is a screen.
    pub(super) fn pick(&self, source: SourceId) -> Option<Pick> {
        let (seat, _) = self.numbers.iter().find(|(_, id)| **id == source)?;
        Some(Pick { participant: seat.participant, screen: seat.kind == SeatKind::Screen })
    }

    /// Whose source this is.
    pub(super) fn owner(&self, source: SourceId) -> Option<ParticipantId> {
        self.pick(source).map(|pick| pick.participant)
    }

    fn number(&mut self, seat: Seat) -> SourceId {
        *self.numbers.entry(seat).or_insert_with(|| {
            self.next += 1;
            SourceId(self.next)
        })
    }
}

/// Who sends something, in the order of joining, and whether the desk lets it be heard.
pub(super) fn audience<'a>(roster: &'a Roster, desk: &Desk) -> impl Iterator<Item = (&'a ParticipantInfo, bool)> {
    let sends = |who: &&ParticipantInfo| roster.tracks.iter().any(|track| track.participant == who.id);
    let present: Vec<_> = roster.participants.iter().filter(sends).collect();
    let heard = desk.heard(&present.iter().map(|who| who.id).collect::<Vec<_>>());
    present.into_iter().zip(heard)
}

/// Video tracks that are sending: those whose decoders need a keyframe to begin with.
pub(super) fn visible_tracks(roster: &Roster) -> BTreeSet<TrackId> {
    roster.tracks.iter().filter(|t| !t.paused && t.codec.kind() == MediaKind::Video).map(|t| t.track).collect()
}

/// How large each picture stands in the programme.
pub(super) fn tiles(scene: &Scene) -> impl Iterator<Item = (TrackId, Size)> {
    let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
    scene.sources.iter().filter_map(move |source| {
        let rect = source.placement?.rect;
        Some((source.video?.track, Size { width: side(rect.width), height: side(rect.height) }))
    })
}

/// Participants of whom something is seen or heard.
pub(super) fn musicians(roster: &Roster) -> u32 {
    let sending: BTreeSet<ParticipantId> = roster.tracks.iter().filter(|t| !t.paused).map(|t| t.participant).collect();
    u32::try_from(sending.len()).unwrap_or(u32::MAX)
}

fn seat_kind(source: TrackSource) -> SeatKind {
    match source {
        TrackSource::Microphone | TrackSource::Camera => SeatKind::Person,
        // No tap ever has the programme.
        TrackSource::Screen | TrackSource::Programme => SeatKind::Screen,
    }
}

fn label(participant: &ParticipantInfo, kind: SeatKind) -> String {
    match kind {
        SeatKind::Person => participant.name.clone(),
        SeatKind::Screen => format!("{} (screen)", participant.name),
    }
}

fn source(id: SourceId, label: String, video: Option<&TapTrack>, audio: Option<&TapTrack>) -> Source {
    let track = |t: &TapTrack| SourceTrack { track: t.track, codec: t.codec, payload_type: t.payload_type };
    Source { video: video.map(track), audio: audio.map(track), ..Source::new(id, label) }
}

#[cfg(test)]
mod tests {
    use crate::domain::desk::MasterChange;
    use crate::domain::desk::StripChange;
    use crate::domain::dressing::DressingChange;
    use crate::domain::dressing::LookChange;
    use crate::domain::layout;
    use crate::domain::layout::Kind;
    use crate::domain::layout::Layout;
    use crate::model::id::ProducerId;
    use crate::model::media::Codec;
    use crate::model::role::RoomRole;

    use super::*;

    fn person(name: &str) -> ParticipantInfo {
        ParticipantInfo::new(ParticipantId::generate(), name.to_owned(), RoomRole::Musician)
    }

    fn track(owner: &ParticipantInfo, number: u32, source: TrackSource, codec: Codec) -> TapTrack {
        TapTrack {
            track: TrackId(number),
            producer: ProducerId::generate(),
            participant: owner.id,
            source,
            codec,
            payload_type: 96,
            paused: false,
        }
    }

    fn duo() -> Roster {
        let (ann, bob) = (person("Ann"), person("Bob"));
        let tracks = vec![
            track(&bob, 1, TrackSource::Camera, Codec::Vp8),
            track(&ann, 2, TrackSource::Microphone, Codec::Opus),
            track(&ann, 3, TrackSource::Camera, Codec::H264),
            track(&bob, 4, TrackSource::Screen, Codec::Vp8),
        ];
        Roster { participants: vec![ann, bob], tracks, ..Roster::default() }
    }

    fn compose(composer: &mut Composer, roster: &Roster) -> Vec<Source> {
        composer.compose(roster, &Staging::default(), None, &ProgrammeSpec::default(), None).sources
    }

    #[test]
    fn sources_stand_in_the_order_of_joining_with_the_screen_after_its_owner() {
        let sources = compose(&mut Composer::default(), &duo());
        let labels: Vec<&str> = sources.iter().map(|s| s.label.as_str()).collect();
        assert_eq!(labels, ["Ann", "Bob", "Bob (screen)"]);
        assert_eq!(sources[0].audio.map(|t| t.track), Some(TrackId(2)));
        assert_eq!(sources[0].video.map(|t| t.track), Some(TrackId(3)));
        let expected = layout::place(3, 1280, 720);
        assert_eq!(sources.iter().filter_map(|s| s.placement).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn sources_keep_their_numbers_while_others_come_and_go() {
        let mut composer = Composer::default();
        let mut roster = duo();
        let before = compose(&mut composer, &roster);
        let ann = roster.participants.remove(0);
        roster.tracks.retain(|t| t.participant != ann.id);
        let eve = person("Eve");
        roster.tracks.push(track(&eve, 9, TrackSource::Microphone, Codec::Opus));
        roster.participants.push(eve);
        let after = compose(&mut composer, &roster);
        assert_eq!([after[0].id, after[1].id], [before[1].id, before[2].id]);
        assert!(before.iter().all(|s| s.id != after[2].id), "a number was used twice");
    }

    #[test]
    fn paused_pictures_leave_the_grid_and_paused_sound_is_muted() {
        let mut roster = duo();
        for paused in [1, 2] {
            roster.tracks[paused].paused = true;
        }
        let sources = compose(&mut Composer::default(), &roster);
        assert!(sources[0].muted && sources[0].placement.is_none() && sources[0].video.is_some());
        let expected = layout::place(2, 1280, 720);
        assert_eq!(sources.iter().filter_map(|s| s.placement).collect::<Vec<_>>(), expected);
        assert_eq!(musicians(&roster), 1);
        assert_eq!(visible_tracks(&roster), [TrackId(1), TrackId(4)].into());
    }

    #[test]
    fn a_second_microphone_is_heard_as_well() {
        let mut roster = duo();
        let ann = roster.participants[0].clone();
        roster.tracks.push(track(&ann, 7, TrackSource::Microphone, Codec::Opus));
        let sources = compose(&mut Composer::default(), &roster);
        assert_eq!(sources[1].audio.map(|t| t.track), Some(TrackId(7)));
        assert_eq!((sources[1].video, sources[1].placement), (None, None));
    }

    #[test]
    fn the_desk_is_carried_out_for_all_a_musician_sends() {
        let roster = duo();
        let [ann, bob] = [roster.participants[0].id, roster.participants[1].id];
        let mut desk = Desk::default();
        let change = StripChange { gain_db: Some(-6.0), pan: Some(-0.5), delay_ms: Some(70), ..StripChange::default() };
        desk.turn(bob, "Bob", change);
        desk.turn(ann, "Ann", StripChange { solo: Some(true), ..StripChange::default() });
        desk.turn_master(MasterChange { gain_db: Some(-60.0), normalise: Some(true) });
        let mut composer = Composer::default();
        let staging = Staging { desk, ..Staging::default() };
        let scene = composer.compose(&roster, &staging, None, &ProgrammeSpec::default(), None);
        assert_eq!(scene.master, Master { gain: 0.0, normalise: true });
        let [first, second, screen] = scene.sources.as_slice() else { panic!("three sources") };
        assert_eq!((first.gain, first.muted, first.delay_ms), (1.0, false, 0));
        for of_bob in [second, screen] {
            assert!((of_bob.gain - 0.501).abs() < 0.001 && of_bob.muted, "{of_bob:?}");
            assert_eq!((of_bob.pan, of_bob.delay_ms), (-0.5, 70));
        }
        assert_eq!([first, second, screen].map(|source| composer.owner(source.id)), [Some(ann), Some(bob), Some(bob)]);
    }

    #[test]
    fn the_layout_is_carried_out_for_those_who_send_a_picture() {
        let mut roster = duo();
        let layout = Layout { kind: Kind::PictureInPicture, ..Layout::default() };
        let staging = Staging { layout, ..Staging::default() };
        let mut composer = Composer::default();
        let mut shown = |roster: &Roster| -> Vec<Option<u32>> {
            let scene = composer.compose(roster, &staging, None, &ProgrammeSpec::default(), None);
            scene.sources.iter().map(|source| source.placement.map(|p| p.rect.width)).collect()
        };
        assert_eq!(shown(&roster), [None, Some(320), Some(1280)], "a screen, and who shows it");
        roster.tracks[3].paused = true;
        assert_eq!(shown(&roster), [Some(1280), Some(320), None]);
        roster.spotlight = Some(roster.participants[1].id);
        assert_eq!(shown(&roster), [Some(320), Some(1280), None]);
    }

    #[test]
    fn a_canvas_is_the_last_source_and_keeps_its_number_while_it_is_there() {
        let mut composer = Composer::default();
        let mut scene = |painter| {
            let sources =
                composer.compose(&duo(), &Staging::default(), painter, &ProgrammeSpec::default(), None).sources;
            sources.last().map(|source| (source.id, source.canvas, source.placement, source.label.clone()))
        };
        let before = scene(Some("Ann")).expect("a source");
        assert!(before.1 && before.2.is_some() && before.3 == "Ann (canvas)");
        assert_eq!(scene(Some("Ann")).map(|source| source.0), Some(before.0));
        assert!(scene(None).is_some_and(|source| !source.1));
        assert!(scene(Some("Bob")).is_some_and(|source| source.1 && source.0 != before.0));
    }

    #[test]
    fn names_are_written_where_they_are_wanted_and_only_cameras_are_retouched() {
        let roster = duo();
        let mut staging = Staging::default();
        let mut composer = Composer::default();
        let mut shown =
            |staging: &Staging| composer.compose(&roster, staging, Some("Ann"), &ProgrammeSpec::default(), None);
        assert!(shown(&staging).sources.iter().all(|source| source.caption.is_none()));
        let mirror = LookChange { mirror: Some(true), ..LookChange::default() };
        staging.dressing.change(DressingChange {
            captions: Some(true),
            title: Some(Some("Jam".to_owned())),
            looks: vec![(roster.participants[1].id, mirror)],
            ..DressingChange::default()
        });
        let scene = shown(&staging);
        let names: Vec<_> = scene.sources.iter().filter_map(|source| source.caption.as_deref()).collect();
        assert_eq!(names, ["Ann", "Bob", "Bob (screen)"], "a canvas speaks for itself");
        assert_eq!(
            scene.sources.iter().map(|source| source.look.mirror).collect::<Vec<_>>(),
            [false, true, false, false]
        );
        assert_eq!(scene.dressing.title.as_deref(), Some("Jam"));
    }

    #[test]
    fn a_room_without_anybody_is_an_empty_scene() {
        assert_eq!(compose(&mut Composer::default(), &Roster::default()), []);
    }
}
