//! What a host directs in a running programme, and what it sees of that: the mixing desk and its meters.

use std::collections::BTreeMap;

use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::align::Alignment;
use crate::domain::align::Standing;
use crate::domain::align::pulse::Pulse;
use crate::domain::desk::Desk;
use crate::domain::desk::MasterChange;
use crate::domain::desk::StripChange;
use crate::domain::dressing::Dressing;
use crate::domain::dressing::DressingChange;
use crate::domain::dressing::colour_name;
use crate::domain::layout::Layout;
use crate::domain::layout::speaker::Speaker;
use crate::live::snapshot::AlignmentSnapshot;
use crate::live::snapshot::AlignmentStanding;
use crate::live::snapshot::CanvasSnapshot;
use crate::live::snapshot::DressingSnapshot;
use crate::live::snapshot::LayoutSnapshot;
use crate::live::snapshot::LeaderSnapshot;
use crate::live::snapshot::LookSnapshot;
use crate::live::snapshot::Meters;
use crate::live::snapshot::MixSnapshot;
use crate::live::snapshot::MusicianLevel;
use crate::live::snapshot::MusicianSnapshot;
use crate::live::snapshot::PictureSnapshot;
use crate::live::snapshot::StreamSnapshot;
use crate::live::stream::Handle;
use crate::live::stream::Stream;
use crate::live::stream::scene;
use crate::model::id::ParticipantId;
use crate::model::scene::Look;
use crate::model::scene::Scene;
use crate::proto::mixer;

/// Changes that wait for the stream; it takes one within milliseconds, and whoever asks waits for its own.
pub(super) const QUEUE: usize = 16;

/// All that has been directed so far, and who is the loudest.
#[derive(Debug, Default)]
pub(super) struct Staging {
    pub(super) desk: Desk,
    pub(super) alignment: Alignment,
    pub(super) pulse: Pulse,
    pub(super) layout: Layout,
    pub(super) dressing: Dressing,
    pub(super) speaker: Speaker,
}

/// What is to be changed; what it does not name stays. The values have been checked.
#[derive(Clone, Debug, Default)]
pub struct Direction {
    pub master: MasterChange,
    /// Changes of somebody who is not there change nothing.
    pub strips: Vec<(ParticipantId, StripChange)>,
    /// Whom the others are to be aligned to; `Some(None)` ends it.
    pub leader: Option<Option<ParticipantId>>,
    pub layout: Option<Layout>,
    pub dressing: DressingChange,
}

/// A direction and whom to tell what became of it.
#[derive(Debug)]
pub(super) struct Asked {
    direction: Direction,
    reply: oneshot::Sender<StreamSnapshot>,
}

impl Handle {
    /// Changes the programme and gives the stream as it is then; `None` when it is over.
    pub async fn direct(&self, direction: Direction) -> Option<StreamSnapshot> {
        let (reply, answer) = oneshot::channel();
        self.directions.send(Asked { direction, reply }).await.ok()?;
        answer.await.ok()
    }

    /// How loud everything is, ten times a second while the stream runs.
    pub fn meters(&self) -> watch::Receiver<Meters> {
        self.meters.clone()
    }
}

impl Stream {
    pub(super) fn on_asked(&mut self, Asked { direction, reply }: Asked) {
        let Direction { master, strips, leader, layout, dressing } = direction;
        self.staging.desk.turn_master(master);
        // A look, a place and the lead are as much a reason to recognise somebody who comes back as a fader is.
        let placed = layout.iter().flat_map(Layout::picks).map(|pick| pick.participant);
        let named = dressing.looks.iter().map(|(participant, _)| *participant).chain(placed).chain(leader.flatten());
        let untouched = named.map(|participant| (participant, StripChange::default()));
        for (participant, change) in strips.into_iter().chain(untouched) {
            if let Some(info) = self.roster.participants.iter().find(|info| info.id == participant) {
                self.staging.desk.turn(participant, &info.name, change);
            }
        }
        if let Some(leader) = leader {
            self.staging.alignment.follow(leader);
        }
        if let Some(layout) = layout {
            self.staging.layout = layout;
        }
        self.staging.dressing.change(dressing);
        self.show();
        self.publish();
        // Who asked may have gone; the change is made all the same.
        let _gone = reply.send(self.snapshot.borrow().clone());
    }

    /// Somebody who comes back finds its settings.
    pub(super) fn recognise(&mut self) {
        let present: Vec<_> = self.roster.participants.iter().map(|info| (info.id, info.name.as_str())).collect();
        let renamed = self.staging.desk.recognise(&present);
        self.staging.alignment.rename(&renamed);
        self.staging.dressing.rename(&renamed);
        self.staging.layout.rename(&renamed);
    }

    pub(super) fn mix(&self) -> MixSnapshot {
        let musicians = scene::audience(&self.roster, &self.staging.desk).map(|(info, heard)| {
            let strip = self.staging.desk.strip(info.id);
            MusicianSnapshot {
                participant: info.id,
                name: info.name.clone(),
                gain_db: strip.gain_db,
                muted: strip.muted,
                solo: strip.solo,
                pan: strip.pan,
                delay_ms: strip.delay_ms,
                alignment: self.alignment_of(info.id),
                heard,
            }
        });
        MixSnapshot {
            master_gain_db: self.staging.desk.master.gain_db,
            normalise: self.staging.desk.master.normalise,
            leader: self.leader(),
            proposed_leader: self.proposed_leader(),
            musicians: musicians.collect(),
        }
    }

    fn leader(&self) -> Option<LeaderSnapshot> {
        let participant = self.staging.alignment.leader()?;
        Some(LeaderSnapshot {
            participant,
            name: self.staging.desk.name(participant).unwrap_or_default().to_owned(),
            present: self.roster.participants.iter().any(|info| info.id == participant),
        })
    }

    /// Somebody who is there, while nobody leads.
    fn proposed_leader(&self) -> Option<ParticipantId> {
        let proposed = self.staging.pulse.proposed().filter(|_| self.staging.alignment.leader().is_none())?;
        self.roster.tracks.iter().any(|track| track.participant == proposed).then_some(proposed)
    }

    fn alignment_of(&self, participant: ParticipantId) -> Option<AlignmentSnapshot> {
        let standing = self.staging.alignment.standing(participant)?;
        let (standing, late_ms) = match standing {
            Standing::Leader => (AlignmentStanding::Leader, None),
            Standing::Aligned { late_ms } => (AlignmentStanding::Aligned, Some(late_ms)),
            Standing::Unmeasured => (AlignmentStanding::Unmeasured, None),
            Standing::OutOfReach { late_ms } => (AlignmentStanding::OutOfReach, Some(late_ms)),
        };
        Some(AlignmentSnapshot { standing, late_ms, added_ms: self.staging.alignment.added_ms(participant) })
    }

    pub(super) fn layout(&self) -> LayoutSnapshot {
        let layout = &self.staging.layout;
        LayoutSnapshot {
            kind: layout.kind.into(),
            large: layout.large.map(Into::into),
            small: layout.small.map(Into::into),
            corner: layout.corner.into(),
            tiles: layout.tiles.iter().map(Into::into).collect(),
            pictures: self.pictures.clone(),
            canvas: self.canvas_shown.clone(),
        }
    }

    pub(super) fn dressing(&self) -> DressingSnapshot {
        let dressing = &self.staging.dressing;
        let looks = scene::audience(&self.roster, &self.staging.desk).map(|(info, _)| {
            let Look { crop, mirror, brightness, monochrome } = dressing.look(info.id);
            LookSnapshot { participant: info.id, crop, mirror, brightness, monochrome }
        });
        DressingSnapshot {
            captions: dressing.captions,
            title: dressing.title.clone(),
            logo: dressing.logo.is_some(),
            background: colour_name(dressing.background),
            backdrop: dressing.backdrop.is_some(),
            looks: looks.collect(),
        }
    }

    /// Remembers what the scene shows, for people to see.
    pub(super) fn note_pictures(&mut self, scene: &Scene) {
        let pictures = scene.sources.iter().filter(|source| source.video.is_some()).filter_map(|source| {
            let pick = self.composer.pick(source.id)?;
            Some(PictureSnapshot {
                of: pick.into(),
                name: source.label.clone(),
                rect: source.placement.map(|p| p.rect),
            })
        });
        self.pictures = pictures.collect();
        let painter = self.canvas.painter.borrow().clone();
        self.canvas_shown = painter.map(|painter| {
            let canvas = scene.sources.iter().find(|source| source.canvas);
            CanvasSnapshot { painter, rect: canvas.and_then(|source| source.placement).map(|place| place.rect) }
        });
    }

    pub(super) fn on_meters(&mut self, meters: &mixer::Meters) {
        let mut levels = BTreeMap::new();
        for level in &meters.sources {
            if let Some(owner) = self.composer.owner(level.source) {
                let (peak, power) = levels.entry(owner).or_insert((f64::MIN, 0.0));
                *peak = level.peak.max(*peak);
                *power += 10.0_f64.powf(level.rms / 10.0);
            }
        }
        let heard: Vec<_> = levels.iter().map(|(who, (_, power))| (*who, 10.0 * power.log10())).collect();
        self.staging.pulse.hear(Instant::now().into_std(), &heard);
        if self.staging.speaker.hear(Instant::now().into_std(), &heard) {
            self.show();
        }
        let musicians = levels.into_iter().map(|(participant, (peak, power))| MusicianLevel {
            participant,
            peak_dbfs: tenths(peak),
            rms_dbfs: tenths(10.0 * power.log10()),
        });
        self.meters.send_replace(Meters {
            momentary_lufs: meters.momentary.map(tenths),
            short_term_lufs: meters.short_term.map(tenths),
            integrated_lufs: meters.integrated.map(tenths),
            true_peak_dbtp: meters.true_peak.map(tenths),
            normalisation_db: tenths(meters.normalisation),
            musicians: musicians.collect(),
        });
    }
}

/// As exact as a meter is read.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
