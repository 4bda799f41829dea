//! What a stream records: the programme's file and the musicians' stems, one set for each mixer, and their rows in the store.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use tracing::error;
use tracing::warn;

use crate::live::port::RecordingRow;
use crate::live::port::StemRow;
use crate::live::snapshot::RecordingSnapshot;
use crate::live::snapshot::RecordingState;
use crate::live::stream::Stream;
use crate::live::stream::view::now_ms;
use crate::model::id::RecordingId;
use crate::model::id::TrackId;
use crate::model::media::MediaKind;
use crate::model::scene::Scene;
use crate::model::scene::Stem;

/// Stems of one stream, over all its mixers: a musician who joins again and again may not fill the folder with files.
const MOST_STEMS: u32 = 1000;

/// Letters of a musician's name in a file's name.
const MOST_LETTERS: usize = 24;

/// The files of the present mixer.
#[derive(Debug, Default)]
pub(super) struct Files {
    programme: Option<File>,
    /// Whether the programme's file has its first picture.
    begun: bool,
    /// Why the recording ended before the broadcast; its files are closed or on their way to be.
    stopped: Option<String>,
    stems: BTreeMap<TrackId, StemFile>,
    /// Stems whose track is gone, until the mixer has closed them.
    closing: Vec<StemFile>,
    /// Stems of all mixers so far.
    stems_so_far: u32,
}

#[derive(Debug)]
struct File {
    id: RecordingId,
    path: PathBuf,
}

#[derive(Debug)]
struct StemFile {
    file: File,
    order: Stem,
    of: StemRow,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has come, so there is neither a file nor a row.
    Waiting,
    Begun,
    /// It failed. It stays in the scene as it is, so that it is not begun again.
    Over,
}

impl Files {
    /// Path of the file that the programme is to be written to.
    pub(super) fn wanted(&self) -> Option<String> {
        self.programme().filter(|_| self.stopped.is_none())
    }

    fn programme(&self) -> Option<String> {
        self.programme.as_ref().map(|file| text(&file.path))
    }

    fn all_stems(&mut self) -> impl Iterator<Item = &mut StemFile> {
        self.stems.values_mut().chain(&mut self.closing)
    }

    fn stem(&mut self, path: &str) -> Option<&mut StemFile> {
        self.all_stems().find(|stem| stem.order.path == path)
    }
}

impl Stream {
    /// A new mixer writes new files.
    pub(super) fn begin_files(&mut self) {
        if let Some(reason) = self.ports.recordings.lack() {
            self.stop_recording(reason);
            return;
        }
        let file = format!("{}-{}.mp4", self.row.id, self.generation);
        let programme = File { id: RecordingId::generate(), path: self.ports.recordings.path.join(&file) };
        self.ledger.recording_begun(self.recording_row(programme.id, file, None, None));
        self.files.programme = Some(programme);
    }

    fn recording_row(
        &self,
        id: RecordingId,
        file: String,
        stem: Option<StemRow>,
        zero_at_ms: Option<i64>,
    ) -> RecordingRow {
        RecordingRow {
            id,
            stream: self.row.id,
            owner: self.row.owner.clone(),
            room: self.row.room.clone(),
            title: self.row.title.clone(),
            part: self.generation,
            file,
            stem,
            created_at_ms: now_ms(),
            zero_at_ms,
            ended_at_ms: None,
            size_bytes: None,
            failure: None,
            kept: false,
        }
    }

    /// Ends the recording when the disk runs full, while there is still room to close its files.
    pub(super) fn watch_disk(&mut self) {
        let lack = self.files.wanted().and_then(|_| self.ports.recordings.lack());
        if let Some(reason) = lack {
            self.stop_recording(reason);
            self.show();
        }
    }

    /// The broadcast goes on; the next scene has no recording in it.
    fn stop_recording(&mut self, reason: String) {
        error!(reason, "the recording stopped; the broadcast goes on");
        metrics::counter!("jamcast_recordings_stopped_total").increment(1);
        self.files.stopped = Some(reason);
    }

    pub(super) fn recording(&self) -> RecordingSnapshot {
        let state = match &self.files {
            Files { stopped: Some(_), .. } => RecordingState::Stopped,
            Files { programme: None, .. } => RecordingState::Off,
            Files { begun: false, .. } => RecordingState::Waiting,
            Files { begun: true, .. } => RecordingState::Recording,
        };
        let open = self.files.stems.values().filter(|stem| stem.stage == Stage::Begun).count();
        RecordingSnapshot { state, reason: self.files.stopped.clone(), stems: u32::try_from(open).unwrap_or(u32::MAX) }
    }

    /// What is wrong with the recording, in a sentence.
    pub(super) fn recording_trouble(&self) -> Option<String> {
        self.files.stopped.as_ref().map(|reason| format!("the recording stopped: {reason}"))
    }

    /// The stems of everything in this scene that has sound or a picture. Those of tracks that are gone are closed by not being there.
    pub(super) fn stems_of(&mut self, scene: &Scene) -> Vec<Stem> {
        let wanted = self.row.stems && self.files.wanted().is_some();
        let tracks: Vec<_> = scene
            .sources
            .iter()
            .filter(|_| wanted)
            .flat_map(|source| {
                [(MediaKind::Audio, source.audio), (MediaKind::Video, source.video)].map(|of| (source, of))
            })
            .filter_map(|(source, (media, track))| Some((source, media, track?)))
            .collect();
        let is_there = |stem: &StemFile| tracks.iter().any(|(_, _, track)| *track == stem.order.track);
        let gone: Vec<TrackId> =
            self.files.stems.iter().filter(|(_, stem)| !is_there(stem)).map(|(track, _)| *track).collect();
        for track in gone {
            self.files.closing.extend(self.files.stems.remove(&track).filter(|stem| stem.stage == Stage::Begun));
        }
        for (source, media, track) in tracks {
            if self.files.stems.contains_key(&track.track) || self.files.stems_so_far >= MOST_STEMS {
                continue;
            }
            self.files.stems_so_far += 1;
            let number = self.files.stems_so_far;
            let title = stem_title(number, &source.label, media);
            let path = self.ports.recordings.path.join(format!("{}-{}-{title}.mkv", self.row.id, self.generation));
            let musician = source.label.clone();
            let order = Stem { source: source.id, track, path: text(&path), title };
            let file = File { id: RecordingId::generate(), path };
            let of = StemRow { musician, media };
            self.files.stems.insert(track.track, StemFile { file, order, of, stage: Stage::Waiting });
        }
        self.files.stems.values().map(|stem| stem.order.clone()).collect()
    }

    pub(super) fn on_recording_begun(&mut self, path: &str, zero_at_ms: i64) {
        if self.files.programme().as_deref() == Some(path) {
            self.files.begun = true;
            if let Some(programme) = &self.files.programme {
                self.ledger.recording_zero(programme.id, zero_at_ms);
            }
        } else if let Some(stem) = self.files.stem(path).filter(|stem| stem.stage == Stage::Waiting) {
            stem.stage = Stage::Begun;
            let (id, file, of) = (stem.file.id, name(&stem.file.path), stem.of.clone());
            self.ledger.recording_begun(self.recording_row(id, file, Some(of), Some(zero_at_ms)));
        }
    }

    pub(super) fn on_recording_over(&mut self, path: &str, failure: Option<&str>) {
        if self.files.programme().as_deref() == Some(path) {
            if let (Some(reason), None) = (failure, &self.files.stopped) {
                self.stop_recording(reason.to_owned());
                // Stems without their programme are of little use.
                self.show();
            }
            self.finish_programme(failure);
            return;
        }
        let Some(stem) = self.files.stem(path) else { return };
        if std::mem::replace(&mut stem.stage, Stage::Over) == Stage::Begun {
            let (id, path) = (stem.file.id, stem.file.path.clone());
            self.ledger.recording_over(id, path, now_ms(), failure.map(str::to_owned));
        }
        self.files.closing.retain(|stem| stem.stage == Stage::Begun);
        if let Some(reason) = failure {
            warn!(path, reason, "a stem stopped early");
            metrics::counter!("jamcast_stem_failures_total").increment(1);
        }
    }

    /// Nothing is written any more: the mixer has finished, or is gone and left its files as they are.
    pub(super) fn finish_files(&mut self, failure: Option<&str>) {
        self.finish_programme(failure);
        for stem in self.files.all_stems().filter(|stem| stem.stage == Stage::Begun) {
            let (id, path) = (stem.file.id, stem.file.path.clone());
            self.ledger.recording_over(id, path, now_ms(), failure.map(str::to_owned));
        }
        self.files = Files { stems_so_far: self.files.stems_so_far, ..Files::default() };
    }

    fn finish_programme(&mut self, failure: Option<&str>) {
        if let Some(programme) = self.files.programme.take() {
            let failure = self.files.stopped.as_deref().or(failure);
            self.ledger.recording_over(programme.id, programme.path, now_ms(), failure.map(str::to_owned));
        }
    }
}

/// Says in a list of files what is in one, and every file system and muxer takes it.
fn stem_title(number: u32, label: &str, media: MediaKind) -> String {
    let words = label.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut who = words.collect::<Vec<_>>().join("-");
    who.truncate(MOST_LETTERS);
    let who = if who.is_empty() { "musician" } else { &who };
    format!("{number:03}-{who}-{}", media.as_str())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stem_is_named_after_its_musician() {
        assert_eq!(stem_title(3, "Ann O'Hara (screen)", MediaKind::Video), "003-Ann-O-Hara-screen-video");
        assert_eq!(stem_title(7, "../夜", MediaKind::Audio), "007-musician-audio");
        assert!(stem_title(7, &"x".repeat(200), MediaKind::Audio).len() < 40);
    }
}
