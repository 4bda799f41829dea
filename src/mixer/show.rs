//! A programme that plays: owns its sources, its sound and its recordings, reconciles them to the scene, and keeps time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::mixer::MILLISECOND;
use crate::mixer::SECOND;
use crate::mixer::error::Error;
use crate::mixer::feed::Feed;
use crate::mixer::monotonic;
use crate::mixer::outbox::Outbox;
use crate::mixer::picture::dresser::Dresser;
use crate::mixer::pipelines::Pipelines;
use crate::mixer::programme::Programme;
use crate::mixer::recording::recorder::Recorder;
use crate::mixer::recording::stems::Stems;
use crate::mixer::recording::thumbnails::Thumbnails;
use crate::mixer::sound::preview::Preview;
use crate::mixer::sound::strip::Setting;
use crate::mixer::source::canvas::Canvas;
use crate::mixer::source::decoder::Use;
use crate::mixer::source::input::Input;
use crate::mixer::source::passage::Limits;
use crate::mixer::source::playout;
use crate::mixer::source::playout::Playout;
use crate::mixer::source::timing::SharedClock;
use crate::mixer::usage;
use crate::model::id::SourceId;
use crate::model::id::TrackId;
use crate::model::media::MediaKind;
use crate::model::scene::Placement;
use crate::model::scene::Scene;
use crate::model::scene::Source;
use crate::model::scene::SourceTrack;
use crate::model::spec::Passthrough;
use crate::model::spec::ProgrammeSpec;
use crate::proto::mixer::CanvasStroke;
use crate::proto::mixer::Control;
use crate::proto::mixer::Meters;
use crate::proto::mixer::MixerStats;
use crate::proto::mixer::Report;
use crate::proto::mixer::SourceLevel;
use crate::proto::mixer::SourceState;
use crate::proto::mixer::TappedPacket;

/// Sources in one programme; a tile of a sixteenth is as small as a face can be, and 16 is what two cores decode.
const MOST_SOURCES: usize = 16;

/// Tracks whose sender reports are remembered: all of the programme's, and as many that the next scene brings.
const MOST_REPORTS: usize = 4 * MOST_SOURCES;

/// Between two looks at the meters.
const METERS: i64 = SECOND / 10;

/// Longest added delay, as the scene promises.
const MOST_DELAY_MS: u32 = 2000;

/// What a mixer is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    OnAir,
    /// It stands by, and composes until its encoders are warm.
    WarmingUp,
    StandingBy,
}

/// See the file.
#[derive(Debug)]
pub(super) struct Show {
    outbox: Outbox,
    programme: Programme,
    feed: Arc<Feed>,
    spec: ProgrammeSpec,
    dresser: Dresser,
    inputs: Vec<Input>,
    canvases: Vec<Canvas>,
    /// Clocks of the sources, shared by their tracks.
    clocks: BTreeMap<SourceId, SharedClock>,
    /// The newest sender report of each track, for inputs that are built later: a picture that is placed again, or one whose report
    /// came before its scene.
    reports: BTreeMap<TrackId, (u64, u32)>,
    /// Whose picture may go out as it comes.
    passed: Option<SourceId>,
    recording: Option<String>,
    recorder: Option<Recorder>,
    closing: Vec<Recorder>,
    recorded_bytes: u64,
    stems: Stems,
    thumbnails: Option<Thumbnails>,
    preview: Option<Preview>,
    duty: Duty,
    playout: Playout,
    late_packets: u64,
    stats_at: i64,
    meters_at: i64,
}

impl Show {
    pub(super) fn begin(pipelines: Pipelines, spec: &ProgrammeSpec, outbox: Outbox) -> Result<Self, Error> {
        let feed = Arc::new(Feed::new(outbox.clone(), spec.passthrough));
        let stems = Stems::new(Arc::new(pipelines.clone()));
        let programme = Programme::start(pipelines, spec, &feed)?;
        let playout = Playout::new(programme.patience());
        outbox.report(Report::Playing);
        Ok(Self {
            outbox,
            dresser: Dresser::new(&programme)?,
            programme,
            feed,
            spec: spec.clone(),
            inputs: Vec::new(),
            canvases: Vec::new(),
            clocks: BTreeMap::new(),
            reports: BTreeMap::new(),
            passed: None,
            recording: None,
            recorder: None,
            closing: Vec::new(),
            recorded_bytes: 0,
            stems,
            thumbnails: None,
            preview: None,
            duty: Duty::OnAir,
            playout,
            late_packets: 0,
            stats_at: monotonic() + SECOND,
            meters_at: monotonic() + METERS,
        })
    }

    /// Nanoseconds between two calls of [`Show::advance`].
    pub(super) const fn tick(&self) -> i64 {
        self.programme.patience().tick
    }

    pub(super) fn control(&mut self, control: &Control) {
        match control {
            Control::SenderReport { track, ntp, rtp } => {
                if self.reports.len() < MOST_REPORTS || self.reports.contains_key(track) {
                    self.reports.insert(*track, (*ntp, *rtp));
                }
                for input in self.inputs.iter_mut().filter(|input| input.track().track == *track) {
                    input.sender_report(clock_of(&mut self.clocks, input.source(), &self.playout), *ntp, *rtp);
                }
                self.stems.sender_report(*track, *ntp, *rtp);
            }
            Control::ForceKeyframe => self.force_keyframe(),
            Control::SetBitrate { video_kbps } => {
                self.spec.video_kbps = (*video_kbps).max(1);
                self.programme.set_bitrate(self.spec.video_kbps);
                self.let_pass(monotonic());
            }
            // The conductor takes these itself, the last two before a programme plays.
            Control::Scene { .. } | Control::Finish | Control::Pipelines { .. } | Control::Probe => {}
        }
    }

    /// The next picture that can be one is a keyframe: the encoder's, or that of the source that passes through.
    fn force_keyframe(&mut self) {
        let now = monotonic();
        if !self.inputs.iter_mut().any(|input| input.force_keyframe(now, &self.programme)) {
            self.programme.force_keyframe();
        }
    }

    pub(super) fn packet(&mut self, tapped: TappedPacket) {
        self.stems.packet(&tapped);
        if let Some(input) = self.inputs.iter_mut().find(|input| input.track().track == tapped.track) {
            let shared = clock_of(&mut self.clocks, input.source(), &self.playout);
            input.packet(tapped, shared);
        }
    }

    pub(super) fn stroke(&mut self, CanvasStroke { source, arrival_us, frame }: CanvasStroke) {
        let Some(canvas) = self.canvases.iter_mut().find(|canvas| canvas.source() == source) else { return };
        let arrival = i64::try_from(arrival_us).unwrap_or(i64::MAX / 1000).saturating_mul(1000);
        canvas.frame(frame, arrival, monotonic(), &self.programme, &self.outbox);
    }

    pub(super) fn reconcile(&mut self, scene: &Scene) -> Result<(), Error> {
        self.reformat(&scene.programme)?;
        self.programme.master().set(scene.master);
        self.dresser.dress(scene);
        let now = monotonic();
        // What moves on air is heard, and what nobody is in yet has not begun.
        let is_empty = self.inputs.is_empty() && self.canvases.is_empty();
        if self.duty != Duty::OnAir || is_empty {
            self.take_playout(scene);
        }
        self.report_for(scene, now);
        let wanted: Vec<_> = scene.sources.iter().take(MOST_SOURCES).flat_map(tracks_of).collect();
        for source in scene.sources.iter().skip(MOST_SOURCES) {
            self.refuse(source);
        }
        let (kept, gone) = std::mem::take(&mut self.inputs).into_iter().partition::<Vec<_>, _>(|input| {
            wanted.iter().any(|(id, track, _)| *id == input.source() && *track == input.track())
        });
        self.inputs = kept;
        for input in gone {
            self.late_packets += input.late_packets();
            input.stop(&self.programme);
        }
        self.clocks.retain(|id, _| scene.sources.iter().any(|source| source.id == *id));
        self.reports.retain(|track, _| scene.sources.iter().any(|source| source.has(*track)));
        for (id, track, purpose) in wanted {
            match self.inputs.iter_mut().find(|input| input.track().track == track.track) {
                Some(input) => input.adjust(purpose),
                None => {
                    let patience = self.programme.patience();
                    let mut input = Input::new(id, track, purpose, patience, now, &self.outbox);
                    if let Some((ntp, rtp)) = self.reports.get(&track.track) {
                        input.sender_report(clock_of(&mut self.clocks, id, &self.playout), *ntp, *rtp);
                    }
                    self.inputs.push(input);
                }
            }
        }
        self.place_canvases(scene, now);
        self.passed = scene.passthrough.filter(|_| self.spec.passthrough == Passthrough::Auto);
        self.let_pass(now);
        self.record(scene.recording.as_deref());
        self.let_listen(scene.preview);
        self.stems.reconcile(&scene.stems, &self.reports, &self.outbox);
        Ok(())
    }

    fn take_playout(&mut self, scene: &Scene) {
        match scene.playout_ms {
            Some(ms) => self.playout.take_over(i64::from(ms) * MILLISECOND),
            None => self.playout.begin(i64::from(scene.repair_ms) * MILLISECOND),
        }
    }

    /// Begins to stand by, or takes the place of the mixer that it stood by for.
    fn report_for(&mut self, scene: &Scene, now: i64) {
        match (self.duty, scene.standby) {
            (Duty::OnAir, true) => {
                self.feed.shut();
                self.duty = Duty::WarmingUp;
            }
            (Duty::WarmingUp | Duty::StandingBy, false) => {
                self.feed.open(scene.continues.map(|continues| continues.sound_us));
                self.programme.take_over(now, scene.continues.map(|continues| continues.picture_us));
                self.duty = Duty::OnAir;
            }
            (Duty::OnAir, false) | (Duty::WarmingUp | Duty::StandingBy, true) => {}
        }
    }

    /// Lets a picture that is the whole programme pass, if it keeps to the programme's limits.
    fn let_pass(&mut self, now: i64) {
        for input in &mut self.inputs {
            let may = self.passed == Some(input.source());
            input.may_pass(may.then(|| Limits::from(&self.spec)), now, &self.programme);
        }
    }

    fn place_canvases(&mut self, scene: &Scene, now: i64) {
        let wanted: Vec<_> = scene.sources.iter().take(MOST_SOURCES).filter_map(canvas_of).collect();
        let (kept, gone) = std::mem::take(&mut self.canvases)
            .into_iter()
            .partition::<Vec<_>, _>(|canvas| wanted.iter().any(|(id, ..)| *id == canvas.source()));
        self.canvases = kept;
        for canvas in gone {
            canvas.stop(&self.programme);
        }
        for (id, placement, delay) in wanted {
            match self.canvases.iter_mut().find(|canvas| canvas.source() == id) {
                Some(canvas) => canvas.adjust(placement, delay),
                None => {
                    let mut canvas = Canvas::new(id, placement, delay, now, &self.outbox);
                    canvas.set_playout(self.playout.delay());
                    self.canvases.push(canvas);
                }
            }
        }
    }

    fn reformat(&mut self, spec: &ProgrammeSpec) -> Result<(), Error> {
        let same_format = ProgrammeSpec { video_kbps: self.spec.video_kbps, ..spec.clone() } == self.spec;
        if !same_format {
            return Err(Error::FormatChanged);
        }
        if spec.video_kbps != self.spec.video_kbps {
            self.programme.set_bitrate(spec.video_kbps);
            self.spec.video_kbps = spec.video_kbps;
        }
        Ok(())
    }

    fn refuse(&self, source: &Source) {
        let reason = format!("a programme holds {MOST_SOURCES} sources");
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let state = SourceState::Failed { reason: reason.clone() };
            self.outbox.report(Report::Source { source: source.id, kind, state });
        }
    }

    /// Makes the programme's sound for the room, while somebody hears it there.
    fn let_listen(&mut self, wanted: bool) {
        if !wanted {
            self.preview = None;
        } else if self.preview.is_none() {
            let without = |error: &Error| tracing::warn!(%error, "the preview has no sound");
            self.preview = Preview::start(&self.programme, &self.outbox).inspect_err(without).ok();
        }
    }

    /// Records to `path` and no other; a path that was tried already is not tried again.
    fn record(&mut self, path: Option<&str>) {
        if self.recording.as_deref() == path {
            return;
        }
        self.recording = path.map(str::to_owned);
        self.close_recording();
        let Some(path) = path else { return };
        match Recorder::start(path, self.programme.pipelines(), &self.spec) {
            Ok((recorder, tap)) => {
                self.recorder = Some(recorder);
                let size = (self.spec.width, self.spec.height);
                let thumbnails = Thumbnails::start(&self.programme, path, size, monotonic());
                let without = |error: &Error| tracing::warn!(%error, "the recording has no thumbnails");
                self.thumbnails = thumbnails.inspect_err(without).ok();
                self.feed.set_tap(Some(tap));
            }
            Err(reason) => {
                tracing::warn!(path, reason, "the recording does not start");
                self.outbox.report(Report::RecordingFailed { path: path.to_owned(), reason });
            }
        }
    }

    fn close_recording(&mut self) {
        self.thumbnails = None;
        if let Some(mut recorder) = self.recorder.take() {
            self.feed.set_tap(None);
            recorder.close(Instant::now());
            self.closing.push(recorder);
        }
    }

    pub(super) fn advance(&mut self, now: i64) -> Result<(), Error> {
        self.programme.poll()?;
        for input in &mut self.inputs {
            input.advance(now, &self.programme, &self.outbox);
        }
        for canvas in &mut self.canvases {
            canvas.advance(now, &self.programme, &self.outbox);
        }
        self.follow_playout(now);
        // An encoder that has made a picture has everything it needs for the next. Building decoders took its time since `now`.
        if self.duty == Duty::WarmingUp && self.feed.counts().0 > 0 && self.programme.rest(monotonic()) {
            self.duty = Duty::StandingBy;
        }
        self.watch_recordings();
        self.stems.advance(now, self.stems_zero(now), &self.outbox);
        if self.thumbnails.as_mut().is_some_and(|thumbnails| !thumbnails.advance(now, &self.programme)) {
            self.thumbnails = None;
        }
        if self.preview.as_ref().is_some_and(Preview::has_failed) {
            self.preview = None;
        }
        if now >= self.stats_at {
            self.stats_at += SECOND;
            self.outbox.report(Report::Stats(self.stats()));
        }
        if now >= self.meters_at {
            self.meters_at = (self.meters_at + METERS).max(now);
            self.outbox.report(Report::Meters(self.meters()));
        }
        Ok(())
    }

    fn follow_playout(&mut self, now: i64) {
        for input in &mut self.inputs {
            input.tell_lateness(now, &mut self.playout);
        }
        for lateness in self.canvases.iter().filter_map(Canvas::lateness) {
            self.playout.ready(now, lateness);
        }
        // One that stands by stays where it is told that the programme is: what comes late to both has moved that already.
        if self.duty == Duty::OnAir {
            self.playout.advance(now);
        }
        for clock in self.clocks.values_mut() {
            clock.set_playout(self.playout.delay());
        }
        for canvas in &mut self.canvases {
            canvas.set_playout(self.playout.delay());
        }
    }

    /// Where stems begin: with the recording, or at once if there is none. Their playout delay never changes, so that they stay
    /// together to the sample; the programme's at that moment is taken off.
    fn stems_zero(&self, now: i64) -> Option<i64> {
        let Some(recorder) = &self.recorder else { return Some(now) };
        let zero = i64::try_from(recorder.zero()?).ok()?.saturating_mul(1000);
        Some(zero - (self.playout.delay() - playout::FIRST))
    }

    fn watch_recordings(&mut self) {
        let now = Instant::now();
        if let Some(report) = self.recorder.as_mut().and_then(Recorder::news) {
            self.outbox.report(report);
        }
        if self.recorder.as_ref().is_some_and(Recorder::wants_keyframe) {
            self.force_keyframe();
        }
        if self.feed.wants_keyframe() {
            self.programme.force_keyframe();
        }
        if let Some(report) = self.recorder.as_ref().and_then(|recorder| recorder.poll(now)) {
            self.feed.set_tap(None);
            self.thumbnails = None;
            self.recorded_bytes += self.recorder.take().map_or(0, |recorder| recorder.size());
            self.tell_recording(report);
        }
        let mut open = Vec::new();
        for recorder in std::mem::take(&mut self.closing) {
            match recorder.poll(now) {
                Some(report) => {
                    self.recorded_bytes += recorder.size();
                    drop(recorder);
                    self.tell_recording(report);
                }
                None => open.push(recorder),
            }
        }
        self.closing = open;
    }

    fn tell_recording(&self, report: Report) {
        if let Report::RecordingFailed { path, reason } = &report {
            tracing::warn!(path, reason, "the recording failed; the programme goes on");
        }
        self.outbox.report(report);
    }

    fn meters(&self) -> Meters {
        let (loudness, normalisation) = self.programme.master().look();
        let sources = self.inputs.iter().filter_map(|input| {
            let level = input.loudness()?;
            Some(SourceLevel { source: input.source(), peak: level.peak, rms: level.rms })
        });
        Meters {
            momentary: loudness.momentary,
            short_term: loudness.short_term,
            integrated: loudness.integrated,
            true_peak: loudness.true_peak,
            normalisation,
            sources: sources.collect(),
        }
    }

    fn stats(&self) -> MixerStats {
        let (video_frames, audio_frames) = self.feed.counts();
        let (passed_frames, passes) = self.feed.passed();
        let open = self.recorder.iter().chain(&self.closing).map(Recorder::size).sum::<u64>();
        MixerStats {
            video_frames,
            passed_frames,
            passes,
            audio_frames,
            dropped_frames: self.programme.overruns() + self.outbox.dropped_frames(),
            late_packets: self.late_packets + self.inputs.iter().map(Input::late_packets).sum::<u64>(),
            recorded_bytes: self.recorded_bytes + open,
            cpu_ms: usage::cpu_ms(),
            memory_bytes: usage::memory_bytes(),
            playout_ms: u32::try_from(self.playout.delay() / MILLISECOND).unwrap_or_default(),
        }
    }

    /// Closes the recordings and ends all pipelines; bounded by the time a recording may take to close.
    pub(super) fn finish(&mut self) {
        self.preview = None;
        self.close_recording();
        self.stems.close(&self.outbox);
        while !(self.closing.is_empty() && self.stems.is_idle()) {
            self.watch_recordings();
            self.stems.advance(monotonic(), None, &self.outbox);
            std::thread::park_timeout(Duration::from_millis(5));
        }
        self.outbox.report(Report::Stats(self.stats()));
        // The programme first, or its last frames would show the sources leaving.
        self.programme.stop();
        for input in std::mem::take(&mut self.inputs) {
            input.stop(&self.programme);
        }
        for canvas in std::mem::take(&mut self.canvases) {
            canvas.stop(&self.programme);
        }
    }
}

/// The clock of a source, which stands where the programme is from its first packet on.
fn clock_of<'a>(
    clocks: &'a mut BTreeMap<SourceId, SharedClock>,
    source: SourceId,
    playout: &Playout,
) -> &'a mut SharedClock {
    clocks.entry(source).or_insert_with(|| SharedClock::at(playout.delay()))
}

/// A canvas with a place; without one it is not decoded.
fn canvas_of(source: &Source) -> Option<(SourceId, Placement, i64)> {
    let placement = source.placement.filter(|_| source.canvas)?;
    Some((source.id, placement, delay_of(source)))
}

fn delay_of(source: &Source) -> i64 {
    i64::from(source.delay_ms.min(MOST_DELAY_MS)) * MILLISECOND
}

/// The tracks of a source that are decoded, and what for. A picture without a place is not decoded.
fn tracks_of(source: &Source) -> Vec<(SourceId, SourceTrack, Use)> {
    let delay = delay_of(source);
    let setting = Setting { gain: source.gain, muted: source.muted, pan: source.pan, delay };
    let sound = source.audio.map(|track| (source.id, track, Use::Sound(setting)));
    let picture = source
        .video
        .zip(source.placement)
        .map(|(track, place)| (source.id, track, Use::Picture(place, source.look, delay)));
    [
        sound.filter(|(_, track, _)| track.codec.kind() == MediaKind::Audio),
        picture.filter(|(_, track, _)| track.codec.kind() == MediaKind::Video),
    ]
    .into_iter()
    .flatten()
    .collect()
}
