//! The life of a stream: which state it is in, when its mixer is started again, and what ends it.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;
use std::time::Instant;

/// How patient a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the start to the first encoded frame.
    pub start: Duration,
    /// For the mixer to finish its recording, and again for the destinations to say goodbye.
    pub stop: Duration,
    /// A stream that got no participant's media for this long is stopped; zero lets it run for ever.
    pub abandoned: Duration,
    /// A mixer that encodes nothing for this long is wedged and replaced.
    pub silence: Duration,
    /// Mixers that may die young within [`Limits::crash_window`]; one more fails the stream, because it would die for ever.
    pub crashes: usize,
    pub crash_window: Duration,
    /// A mixer that encoded for this long has shown that it can: its death is answered at once, and older ones are forgiven.
    pub proven: Duration,
    /// Pause before the second restart within the window; it doubles with each further one. The first restart has none.
    pub restart_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // The first GStreamer start on a machine scans all plugins, which takes some 10 s on a slow disk.
            start: Duration::from_secs(20),
            // Closing a fragmented MP4 of hours rewrites its index only: well under a second on any disk that works.
            stop: Duration::from_secs(10),
            abandoned: Duration::from_secs(300),
            // Platforms drop an ingest that is silent for about 10 s; a cold mixer needs 0.2 s.
            silence: Duration::from_secs(5),
            crashes: 5,
            crash_window: Duration::from_secs(60),
            proven: Duration::from_secs(4),
            restart_pause: Duration::from_millis(250),
        }
    }
}

/// Where a stream is in its life; it only moves down this list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing runs.
    Created,
    /// Waiting for the first frame until `deadline`.
    Starting { deadline: Instant, run: Run },
    /// The programme runs.
    Live { run: Run },
    /// Being closed, to end with `outcome`; what does not close until `deadline` is left behind.
    Stopping { outcome: Outcome, closing: Closing, deadline: Instant },
    /// Ended by somebody's wish or because nobody was there.
    Ended { reason: Option<String> },
    /// Ended by our fault.
    Failed { reason: String },
}

/// What a running stream remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    mixer: Mixer,
    /// When a participant's media came last; the start counts as well.
    media: Instant,
    /// When mixers died, within the window only.
    crashes: VecDeque<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mixer {
    /// Started; `heard` is its last frame, or its start, `first` its first frame.
    Running { heard: Instant, first: Option<Instant> },
    /// Dead, to be started again at `until`.
    Resting { until: Instant },
}

/// How a stream that is being stopped will have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ended { reason: Option<String> },
    Failed { reason: String },
}

/// What a stopping stream waits for: the mixer's last frames have to reach the destinations, so it goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    Mixer,
    Destinations,
}

/// What happens to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Start,
    /// Somebody wants it to end; the reason is told if it is not the obvious one.
    Stop {
        reason: Option<String>,
    },
    /// The mixer could not be started, died, or finished.
    MixerGone {
        reason: String,
    },
    /// The mixer encoded a frame.
    Frame,
    /// A participant's media arrived.
    Media,
    DestinationsClosed,
    /// The time of [`Lifecycle::poll_timeout`] has come; harmless at any other time.
    Timeout,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    StartMixer,
    /// Kill it; [`Input::MixerGone`] is not expected for it any more.
    KillMixer,
    /// Ask it to finish and exit; [`Input::MixerGone`] follows, at once if there is none.
    FinishMixer,
    /// Stop all destinations; [`Input::DestinationsClosed`] follows.
    CloseDestinations,
}

/// The life of one stream.
#[derive(Debug)]
pub struct Lifecycle {
    limits: Limits,
    state: State,
    actions: VecDeque<Action>,
}

impl Run {
    /// A frame came. A dead mixer has no frames, so one that comes after its death was only late.
    fn hear(&mut self, now: Instant) {
        match &mut self.mixer {
            Mixer::Running { heard, first } => {
                *heard = now;
                first.get_or_insert(now);
            }
            Mixer::Resting { .. } => {}
        }
    }
}

impl Lifecycle {
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Created, actions: VecDeque::new() }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// The next thing to be done, in order; ask until there is none.
    pub fn poll_output(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Created | State::Ended { .. } | State::Failed { .. } => None,
            State::Starting { deadline, run } => {
                let wake = match run.mixer {
                    Mixer::Running { .. } => None,
                    Mixer::Resting { until } => Some(until),
                };
                [Some(*deadline), wake, self.abandoned_at(run)].into_iter().flatten().min()
            }
            State::Live { run } => {
                let wake = match run.mixer {
                    Mixer::Running { heard, .. } => heard + self.limits.silence,
                    Mixer::Resting { until } => until,
                };
                [Some(wake), self.abandoned_at(run)].into_iter().flatten().min()
            }
            State::Stopping { deadline, .. } => Some(*deadline),
        }
    }

    /// Takes one event. Events that mean nothing in the present state are ignored.
    pub fn handle(&mut self, now: Instant, input: Input) {
        // A transition takes the old state apart by value; what stands in its place meanwhile is never seen.
        let state = mem::replace(&mut self.state, State::Created);
        self.state = match state {
            State::Created => self.when_created(now, input),
            State::Starting { deadline, run } => self.when_starting(now, deadline, run, input),
            State::Live { run } => self.when_live(now, run, input),
            State::Stopping { outcome, closing, deadline } => {
                self.when_stopping(now, outcome, closing, deadline, &input)
            }
            over @ (State::Ended { .. } | State::Failed { .. }) => over,
        };
    }

    fn when_created(&mut self, now: Instant, input: Input) -> State {
        match input {
            Input::Start => {
                self.actions.push_back(Action::StartMixer);
                let run =
                    Run { mixer: Mixer::Running { heard: now, first: None }, media: now, crashes: VecDeque::new() };
                State::Starting { deadline: now + self.limits.start, run }
            }
            Input::Stop { reason } => State::Ended { reason },
            Input::MixerGone { .. } | Input::Frame | Input::Media | Input::DestinationsClosed | Input::Timeout => {
                State::Created
            }
        }
    }

    fn when_starting(&mut self, now: Instant, deadline: Instant, mut run: Run, input: Input) -> State {
        match input {
            Input::Frame => {
                run.hear(now);
                State::Live { run }
            }
            Input::Stop { reason } => self.stop(now, Outcome::Ended { reason }),
            Input::MixerGone { reason } => match self.rest(now, &mut run, &reason) {
                Ok(()) => State::Starting { deadline, run },
                Err(reason) => self.fail_without_mixer(now, reason),
            },
            Input::Media => {
                run.media = now;
                State::Starting { deadline, run }
            }
            Input::Timeout if now >= deadline => {
                let seconds = self.limits.start.as_secs();
                self.actions.push_back(Action::KillMixer);
                self.fail_without_mixer(now, format!("the mixer sent no picture within {seconds} s of the start"))
            }
            Input::Timeout if self.is_abandoned(now, &run) => self.stop(now, self.nobody_came()),
            Input::Timeout => {
                self.wake(now, &mut run);
                State::Starting { deadline, run }
            }
            Input::Start | Input::DestinationsClosed => State::Starting { deadline, run },
        }
    }

    fn when_live(&mut self, now: Instant, mut run: Run, input: Input) -> State {
        match input {
            Input::Frame => {
                run.hear(now);
                State::Live { run }
            }
            Input::Media => {
                run.media = now;
                State::Live { run }
            }
            Input::Stop { reason } => self.stop(now, Outcome::Ended { reason }),
            Input::MixerGone { reason } => self.replace_mixer(now, run, &reason),
            Input::Timeout if self.is_abandoned(now, &run) => self.stop(now, self.nobody_came()),
            Input::Timeout => match run.mixer {
                Mixer::Running { heard, .. } if now >= heard + self.limits.silence => {
                    self.actions.push_back(Action::KillMixer);
                    let seconds = self.limits.silence.as_secs();
                    self.replace_mixer(now, run, &format!("it encoded nothing for {seconds} s"))
                }
                Mixer::Running { .. } => State::Live { run },
                Mixer::Resting { .. } => {
                    self.wake(now, &mut run);
                    State::Live { run }
                }
            },
            Input::Start | Input::DestinationsClosed => State::Live { run },
        }
    }

    fn when_stopping(
        &mut self,
        now: Instant,
        outcome: Outcome,
        closing: Closing,
        deadline: Instant,
        input: &Input,
    ) -> State {
        let late = matches!(input, Input::Timeout) && now >= deadline;
        match closing {
            Closing::Mixer if matches!(input, Input::MixerGone { .. }) => self.close_destinations(now, outcome),
            Closing::Mixer if late => {
                self.actions.push_back(Action::KillMixer);
                self.close_destinations(now, outcome)
            }
            Closing::Destinations if late || matches!(input, Input::DestinationsClosed) => match outcome {
                Outcome::Ended { reason } => State::Ended { reason },
                Outcome::Failed { reason } => State::Failed { reason },
            },
            Closing::Mixer | Closing::Destinations => State::Stopping { outcome, closing, deadline },
        }
    }

    fn stop(&mut self, now: Instant, outcome: Outcome) -> State {
        self.actions.push_back(Action::FinishMixer);
        State::Stopping { outcome, closing: Closing::Mixer, deadline: now + self.limits.stop }
    }

    fn fail_without_mixer(&mut self, now: Instant, reason: String) -> State {
        self.close_destinations(now, Outcome::Failed { reason })
    }

    fn close_destinations(&mut self, now: Instant, outcome: Outcome) -> State {
        self.actions.push_back(Action::CloseDestinations);
        State::Stopping { outcome, closing: Closing::Destinations, deadline: now + self.limits.stop }
    }

    fn replace_mixer(&mut self, now: Instant, mut run: Run, reason: &str) -> State {
        match self.rest(now, &mut run, reason) {
            Ok(()) => State::Live { run },
            Err(reason) => self.fail_without_mixer(now, reason),
        }
    }

    /// Counts a death and starts the next mixer, now or after a pause; refuses when there were too many.
    fn rest(&mut self, now: Instant, run: &mut Run, reason: &str) -> Result<(), String> {
        match run.mixer {
            Mixer::Resting { .. } => return Ok(()),
            Mixer::Running { heard, first: Some(first) } if heard - first >= self.limits.proven => run.crashes.clear(),
            Mixer::Running { .. } => {}
        }
        run.crashes.push_back(now);
        while run.crashes.front().is_some_and(|&at| now.saturating_duration_since(at) > self.limits.crash_window) {
            run.crashes.pop_front();
        }
        let deaths = run.crashes.len();
        if deaths > self.limits.crashes {
            let seconds = self.limits.crash_window.as_secs();
            return Err(format!("the mixer died {deaths} times within {seconds} s, the last time because {reason}"));
        }
        let pause = match deaths {
            0 | 1 => Duration::ZERO,
            // Capped far above any sensible number of crashes, so that the shift cannot overflow.
            more => self.limits.restart_pause * (1 << (more - 2).min(16)),
        };
        run.mixer = Mixer::Resting { until: now + pause };
        self.wake(now, run);
        Ok(())
    }

    fn wake(&mut self, now: Instant, run: &mut Run) {
        match run.mixer {
            Mixer::Resting { until } if now >= until => {
                self.actions.push_back(Action::StartMixer);
                run.mixer = Mixer::Running { heard: now, first: None };
            }
            Mixer::Resting { .. } | Mixer::Running { .. } => {}
        }
    }

    fn abandoned_at(&self, run: &Run) -> Option<Instant> {
        (!self.limits.abandoned.is_zero()).then(|| run.media + self.limits.abandoned)
    }

    fn is_abandoned(&self, now: Instant, run: &Run) -> bool {
        self.abandoned_at(run).is_some_and(|at| now >= at)
    }

    fn nobody_came(&self) -> Outcome {
        let seconds = self.limits.abandoned.as_secs();
        Outcome::Ended { reason: Some(format!("nobody sent sound or picture for {seconds} s")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(life: &mut Lifecycle) -> Vec<Action> {
        std::iter::from_fn(|| life.poll_output()).collect()
    }

    fn gone(reason: &str) -> Input {
        Input::MixerGone { reason: reason.to_owned() }
    }

    fn live(now: Instant) -> Lifecycle {
        let mut life = Lifecycle::new(Limits::default());
        life.handle(now, Input::Start);
        life.handle(now, Input::Frame);
        assert_eq!(drain(&mut life), [Action::StartMixer]);
        assert!(matches!(life.state(), State::Live { .. }));
        life
    }

    #[test]
    fn a_stream_starts_runs_and_ends() {
        let now = Instant::now();
        let mut life = live(now);
        life.handle(now, Input::Stop { reason: None });
        assert_eq!(drain(&mut life), [Action::FinishMixer]);
        life.handle(now, gone("it finished"));
        assert_eq!(drain(&mut life), [Action::CloseDestinations]);
        life.handle(now, Input::DestinationsClosed);
        assert_eq!(*life.state(), State::Ended { reason: None });
        assert_eq!(life.poll_timeout(), None);
    }

    #[test]
    fn the_first_death_is_answered_at_once_and_later_ones_after_growing_pauses() {
        let mut now = Instant::now();
        let mut life = live(now);
        life.handle(now, gone("a signal"));
        assert_eq!(drain(&mut life), [Action::StartMixer]);
        for pause_ms in [250, 500, 1000, 2000] {
            life.handle(now, gone("a signal"));
            assert_eq!(drain(&mut life), []);
            let due = life.poll_timeout().expect("a restart is due");
            assert_eq!(due - now, Duration::from_millis(pause_ms));
            now = due;
            life.handle(now, Input::Timeout);
            assert_eq!(drain(&mut life), [Action::StartMixer]);
        }
        life.handle(now, gone("a signal"));
        assert_eq!(drain(&mut life), [Action::CloseDestinations]);
        life.handle(now, Input::DestinationsClosed);
        let State::Failed { reason } = life.state() else { panic!("{:?}", life.state()) };
        assert!(reason.contains("6 times") && reason.contains("a signal"), "{reason}");
    }

    #[test]
    fn rare_deaths_are_forgiven() {
        let mut now = Instant::now();
        let mut life = live(now);
        for _ in 0..20 {
            now += Duration::from_secs(61);
            life.handle(now, Input::Media);
            life.handle(now, gone("a signal"));
            assert_eq!(drain(&mut life), [Action::StartMixer]);
        }
    }

    #[test]
    fn a_mixer_that_worked_is_replaced_at_once_however_often() {
        let mut now = Instant::now();
        let mut life = live(now);
        for _ in 0..30 {
            life.handle(now, Input::Media);
            life.handle(now, Input::Frame);
            now += Duration::from_secs(4);
            life.handle(now, Input::Frame);
            now += Duration::from_secs(2);
            life.handle(now, gone("a signal"));
            assert_eq!(drain(&mut life), [Action::StartMixer]);
        }
    }

    #[test]
    fn a_wedged_mixer_is_replaced() {
        let now = Instant::now();
        let mut life = live(now);
        let due = life.poll_timeout().expect("silence is watched");
        assert_eq!(due - now, Duration::from_secs(5));
        life.handle(due, Input::Timeout);
        assert_eq!(drain(&mut life), [Action::KillMixer, Action::StartMixer]);
    }

    #[test]
    fn a_mixer_that_shows_nothing_fails_the_start() {
        let now = Instant::now();
        let mut life = Lifecycle::new(Limits::default());
        life.handle(now, Input::Start);
        life.handle(now + Duration::from_secs(20), Input::Timeout);
        assert_eq!(drain(&mut life), [Action::StartMixer, Action::KillMixer, Action::CloseDestinations]);
        life.handle(now + Duration::from_secs(20), Input::DestinationsClosed);
        assert!(matches!(life.state(), State::Failed { .. }));
    }

    #[test]
    fn an_abandoned_stream_ends_and_zero_lets_it_run() {
        let mut now = Instant::now();
        let mut life = live(now);
        for _ in 0..299 {
            now += Duration::from_secs(1);
            life.handle(now, Input::Frame);
            life.handle(now, Input::Timeout);
        }
        assert!(matches!(life.state(), State::Live { .. }));
        life.handle(now + Duration::from_secs(1), Input::Timeout);
        assert!(matches!(life.state(), State::Stopping { outcome: Outcome::Ended { reason: Some(_) }, .. }));

        let mut patient = Lifecycle::new(Limits { abandoned: Duration::ZERO, ..Limits::default() });
        patient.handle(now, Input::Start);
        patient.handle(now + Duration::from_secs(86_400), Input::Frame);
        patient.handle(now + Duration::from_secs(86_400), Input::Timeout);
        assert!(matches!(patient.state(), State::Live { .. }));
    }

    #[test]
    fn what_does_not_close_is_left_behind() {
        let now = Instant::now();
        let mut life = live(now);
        life.handle(now, Input::Stop { reason: None });
        let first = life.poll_timeout().expect("a deadline");
        life.handle(first, Input::Timeout);
        assert_eq!(drain(&mut life), [Action::FinishMixer, Action::KillMixer, Action::CloseDestinations]);
        let second = life.poll_timeout().expect("a deadline");
        life.handle(second, Input::Timeout);
        assert_eq!(*life.state(), State::Ended { reason: None });
    }

    fn rank(state: &State) -> u32 {
        match state {
            State::Created => 0,
            State::Starting { .. } => 1,
            State::Live { .. } => 2,
            State::Stopping { closing: Closing::Mixer, .. } => 3,
            State::Stopping { closing: Closing::Destinations, .. } => 4,
            State::Ended { .. } | State::Failed { .. } => 5,
        }
    }

    fn inputs() -> impl Strategy<Value = Input> {
        prop_oneof![
            1 => Just(Input::Start),
            1 => Just(Input::Stop { reason: None }),
            4 => Just(Input::MixerGone { reason: "chance".to_owned() }),
            8 => Just(Input::Frame),
            8 => Just(Input::Media),
            1 => Just(Input::DestinationsClosed),
            8 => Just(Input::Timeout),
        ]
    }

    proptest! {
        #[test]
        fn a_stream_never_goes_back_and_always_reaches_its_end(
            steps in prop::collection::vec((0u64..30_000, inputs()), 0..200)
        ) {
            let mut now = Instant::now();
            let mut life = Lifecycle::new(Limits::default());
            life.handle(now, Input::Start);
            let mut at = rank(life.state());
            for (pause_ms, input) in steps {
                now += Duration::from_millis(pause_ms);
                let before = life.state().clone();
                life.handle(now, input);
                prop_assert!(rank(life.state()) >= at, "{:?} -> {:?}", before, life.state());
                at = rank(life.state());
                if at == 5 {
                    prop_assert!(before.eq(life.state()) || rank(&before) == 4);
                }
            }
            // Nothing happens any more but the passing of time: abandonment and deadlines alone must end it.
            for _ in 0..1_000 {
                let Some(due) = life.poll_timeout() else { break };
                now = now.max(due);
                life.handle(now, Input::Timeout);
                prop_assert!(rank(life.state()) >= at);
                at = rank(life.state());
            }
            prop_assert_eq!(at, 5);
        }
    }
}
