//! What a stream does with its room's canvas: frames go to the mixer as they come, and the scene follows its coming and going.

use std::future;

use crate::live::canvas::Stroke;
use crate::live::canvas::View;
use crate::live::stream::Stream;
use crate::proto::mixer::CanvasStroke;

pub(super) enum CanvasEvent {
    /// It came, went, or has another painter.
    Painter,
    Stroke(Stroke),
}

/// The next thing that happens to a canvas. Safe to cancel.
pub(super) async fn next(view: &mut View) -> CanvasEvent {
    tokio::select! {
        biased;
        changed = view.painter.changed() => match changed {
            Ok(()) => CanvasEvent::Painter,
            Err(_) => future::pending().await,
        },
        stroke = view.strokes.recv() => match stroke {
            Some(stroke) => CanvasEvent::Stroke(stroke),
            None => future::pending().await,
        },
    }
}

impl Stream {
    pub(super) fn on_canvas(&mut self, event: CanvasEvent) {
        match event {
            CanvasEvent::Painter => {
                self.canvas.painter.mark_unchanged();
                self.show();
            }
            CanvasEvent::Stroke(stroke) => {
                let Some(source) = self.composer.canvas() else { return };
                let has_deltas = stroke.frame.format.has_deltas();
                if !self.standby.offer_stroke(source, &stroke) && has_deltas {
                    self.canvas.want_keyframe();
                }
                let Stroke { arrival_us, frame, .. } = stroke;
                if !self.child.offer_stroke(CanvasStroke { source, arrival_us, frame }) {
                    metrics::counter!("jamcast_canvas_dropped_frames_total", "reason" => "mixer").increment(1);
                    if has_deltas {
                        self.canvas.want_keyframe();
                    }
                }
            }
        }
    }
}
