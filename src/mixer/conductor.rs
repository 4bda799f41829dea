//! The mixer's side of the protocol with the gateway: what may be asked when, and the programme once the first scene has come.

use crate::mixer::error::Error;
use crate::mixer::monotonic;
use crate::mixer::outbox::Outbox;
use crate::mixer::pipelines::Pipelines;
use crate::mixer::probe::probe;
use crate::mixer::show::Show;
use crate::mixer::source::playout::Patience;
use crate::model::spec::Latency;
use crate::proto::mixer::Control;
use crate::proto::mixer::Report;
use crate::proto::mixer::ToMixer;

/// Whether the mixer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    On,
    Finished,
}

/// See the file.
#[derive(Debug)]
pub(super) struct Conductor {
    outbox: Outbox,
    pipelines: Pipelines,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// No scene yet.
    Dark,
    Lit(Box<Show>),
}

impl Conductor {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self { outbox, pipelines: Pipelines::default(), stage: Stage::Dark }
    }

    /// Does what the gateway says.
    pub(super) fn handle(&mut self, message: ToMixer) -> Result<Progress, Error> {
        if matches!(message, ToMixer::Control(Control::Finish)) {
            self.stop();
            self.outbox.report(Report::Finished);
            return Ok(Progress::Finished);
        }
        match (message, &mut self.stage) {
            (ToMixer::Control(Control::Pipelines { encoder, own }), Stage::Dark) => {
                self.pipelines = Pipelines::new(encoder, own);
                Ok(Progress::On)
            }
            (ToMixer::Control(Control::Probe), Stage::Dark) => {
                self.outbox.report(Report::Probed(probe(&self.pipelines)));
                Ok(Progress::On)
            }
            (ToMixer::Control(Control::Scene { scene }), Stage::Lit(show)) => {
                show.reconcile(&scene)?;
                Ok(Progress::On)
            }
            (ToMixer::Control(Control::Scene { scene }), Stage::Dark) => {
                let mut show = Show::begin(self.pipelines.clone(), &scene.programme, self.outbox.clone())?;
                show.reconcile(&scene)?;
                self.stage = Stage::Lit(Box::new(show));
                Ok(Progress::On)
            }
            (ToMixer::Rtp(tapped), Stage::Lit(show)) => {
                show.packet(tapped);
                Ok(Progress::On)
            }
            (ToMixer::Canvas(stroke), Stage::Lit(show)) => {
                show.stroke(stroke);
                Ok(Progress::On)
            }
            (ToMixer::Control(control), Stage::Lit(show)) => {
                show.control(&control);
                Ok(Progress::On)
            }
            (ToMixer::Rtp(_) | ToMixer::Canvas(_) | ToMixer::Control(_), Stage::Dark) => Ok(Progress::On),
        }
    }

    /// Nanoseconds between two calls of [`Conductor::advance`].
    pub(super) const fn tick(&self) -> i64 {
        match &self.stage {
            Stage::Dark => Patience::of(Latency::Normal).tick,
            Stage::Lit(show) => show.tick(),
        }
    }

    /// Moves everything on that time has come for.
    pub(super) fn advance(&mut self) -> Result<(), Error> {
        match &mut self.stage {
            Stage::Dark => Ok(()),
            Stage::Lit(show) => show.advance(monotonic()),
        }
    }

    /// Ends all pipelines; a recording is closed properly.
    pub(super) fn stop(&mut self) {
        if let Stage::Lit(show) = &mut self.stage {
            show.finish();
        }
        self.stage = Stage::Dark;
    }
}
