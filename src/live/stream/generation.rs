//! The mixers of a stream, one generation after the other: started, listened to, finished, and replaced when one is gone.

use std::mem;
use std::sync::Arc;

use futures::FutureExt;
use tokio::time::Instant;
use tracing::debug;
use tracing::warn;

use crate::domain::lifecycle::Input;
use crate::domain::lifecycle::State;
use crate::live::stream::Stream;
use crate::live::stream::child::Child;
use crate::live::stream::child::ChildEvent;
use crate::live::stream::outbox::Outbox;
use crate::live::stream::scene;
use crate::live::stream::view::now_ms;
use crate::live::stream::view::phase;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::model::scene::Scene;
use crate::proto::mixer::FromMixer;
use crate::proto::mixer::MixerStats;
use crate::proto::mixer::Report;

impl Stream {
    pub(super) fn start_mixer(&mut self) {
        self.generation += 1;
        if self.generation > 1 {
            metrics::counter!("jamcast_mixer_restarts_total").increment(1);
            self.timeline.restart();
        }
        add(&mut self.earlier, &mem::take(&mut self.mixer_stats));
        self.unmissed_frames = 0;
        if self.row.record {
            self.begin_files();
        }
        if let Some(standby) = self.take_standby() {
            // Its decoders run and its encoder begins with a keyframe: all it lacks is the scene of one that is on air.
            self.child = standby;
            self.keyframe_wish = false;
            let scene = Scene { continues: self.timeline.newest(), ..self.scene() };
            if let Some(outbox) = self.child.outbox() {
                outbox.set_scene(scene);
            }
            return;
        }
        let (mixers, stream) = (Arc::clone(&self.ports.mixers), self.row.id);
        self.child = Child::Starting(async move { mixers.start(stream).await }.boxed());
    }

    pub(super) fn finish_mixer(&mut self) {
        // The room is not listened to any more: what is said after the end belongs to nobody.
        self.tap.close();
        self.standby.dismiss();
        match self.child.outbox() {
            Some(outbox) => outbox.finish(),
            None => self.mixer_gone("it had not started"),
        }
    }

    /// Tells the lifecycle that the mixer is gone, however it came to that; its answer is left to [`Self::carry_out`].
    fn mixer_gone(&mut self, reason: &str) {
        self.drop_mixer(&format!("the mixer died ({reason}); the file holds what was written until then"));
        match self.life.state() {
            State::Starting { .. } | State::Live { .. } => {
                warn!(reason, generation = self.generation, "the mixer is gone and will be replaced");
                self.mixer_trouble = Some(format!("the mixer died ({reason}) and is being restarted"));
            }
            State::Created | State::Stopping { .. } | State::Ended { .. } | State::Failed { .. } => {}
        }
        self.life.handle(Instant::now().into_std(), Input::MixerGone { reason: reason.to_owned() });
    }

    pub(super) fn drop_mixer(&mut self, recording_failure: &str) {
        self.child = Child::None;
        if let Some(hls) = &mut self.hls {
            hls.interrupt();
        }
        self.finish_files(Some(recording_failure));
    }

    pub(super) fn on_child(&mut self, event: ChildEvent) {
        match event {
            ChildEvent::Started(link) => {
                debug!(pid = link.pid, generation = self.generation, "the mixer is up");
                let scene = self.scene();
                self.child = Child::running(link, Outbox::for_newborn(scene, self.reports.clone()));
                // A mixer begins with a keyframe by itself, so older wishes are granted; its decoders need some as well.
                self.keyframe_wish = false;
                self.ask_keyframes(scene::visible_tracks(&self.roster));
                self.canvas.want_keyframe();
            }
            ChildEvent::NotStarted(error) => {
                let reason = match std::error::Error::source(&error) {
                    Some(source) => format!("{error}: {source}"),
                    None => error.to_string(),
                };
                self.lose_mixer(&reason);
            }
            ChildEvent::Told => {}
            ChildEvent::Said(FromMixer::Frame(frame)) => self.on_frame(&frame),
            ChildEvent::Said(FromMixer::Config(config)) => {
                if let Some(hls) = &mut self.hls {
                    hls.set_config(&config);
                }
                self.screening.set_config(&config);
                self.fanout.set_config(config);
            }
            ChildEvent::Said(FromMixer::Preview(sound)) => self.screen_sound(sound),
            ChildEvent::Said(FromMixer::Report(report)) => self.on_report(report),
            ChildEvent::Gone => self.lose_mixer("its process ended"),
        }
    }

    /// Takes in that the mixer is gone and does what the lifecycle decides.
    fn lose_mixer(&mut self, reason: &str) {
        let before = phase(self.life.state());
        self.mixer_gone(reason);
        self.carry_out(before);
    }

    fn on_frame(&mut self, frame: &EncodedFrame) {
        if !self.timeline.admit(frame) {
            self.unfit_frames += 1;
            // A keyframe of a time that is over, where pictures went out before their time: those that follow need another.
            self.keyframe_wish |= frame.key && frame.kind == MediaKind::Video;
            return;
        }
        self.meter.count(frame);
        self.fanout.push(frame);
        self.screen(frame);
        if let Some(hls) = &mut self.hls {
            self.keyframe_wish |= hls.take(frame, now_ms());
        }
        if frame.kind == MediaKind::Video {
            self.mixer_trouble = None;
            self.advance(Input::Frame);
        }
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::Playing => debug!("the mixer plays"),
            Report::Probed(_) => debug!("nobody asked this mixer what it can do"),
            Report::KeyframeWanted { track } => self.ask_keyframes([track]),
            Report::CanvasKeyframeWanted { .. } => self.canvas.want_keyframe(),
            Report::Source { source, kind, state } => debug!(source = source.0, kind = kind.as_str(), ?state, "source"),
            Report::Stats(stats) => {
                self.tell_standby_playout(stats.playout_ms);
                let dropped_frames = stats.dropped_frames.saturating_sub(self.unmissed_frames);
                self.mixer_stats = MixerStats { dropped_frames, ..stats };
            }
            Report::Meters(meters) => self.on_meters(&meters),
            Report::RecordingBegun { path, zero_at_ms } => self.on_recording_begun(&path, zero_at_ms),
            Report::RecordingFinished { path } => self.on_recording_over(&path, None),
            Report::RecordingFailed { path, reason } => self.on_recording_over(&path, Some(&reason)),
            Report::Failed { reason } => self.lose_mixer(&reason),
            Report::Finished => {
                self.finish_files(None);
                self.lose_mixer("it finished");
            }
        }
    }
}

fn add(sum: &mut MixerStats, stats: &MixerStats) {
    sum.passed_frames += stats.passed_frames;
    sum.dropped_frames += stats.dropped_frames;
    sum.recorded_bytes += stats.recorded_bytes;
    sum.cpu_ms += stats.cpu_ms;
}
