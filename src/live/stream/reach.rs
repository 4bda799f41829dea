//! Destinations that join, leave and change their standing while a programme runs.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::domain::lifecycle::State;
use crate::live::destination;
use crate::live::destination::Destination;
use crate::live::fanout::Fanout;
use crate::live::port::Dial;
use crate::live::snapshot::StreamSnapshot;
use crate::live::stream::Handle;
use crate::live::stream::Stream;
use crate::model::id::DestinationId;
use crate::model::secret::StreamKey;
use crate::model::spec::DestinationSpec;
use crate::model::spec::ProgrammeSpec;

/// Orders that wait for the stream; it takes one within milliseconds, and whoever gives one waits for its own.
pub(super) const QUEUE: usize = 16;

/// What it takes to start a destination.
pub(super) struct Reach {
    pub(super) config: destination::Config,
    pub(super) programme: ProgrammeSpec,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) tracker: TaskTracker,
}

impl Reach {
    pub(super) fn start(&self, spec: DestinationSpec, key: StreamKey, fanout: &Fanout) -> Destination {
        let (programme, dial) = (self.programme.clone(), Arc::clone(&self.dial));
        Destination::start(spec, key, &self.config, programme, dial, fanout.subscribe(), &self.tracker)
    }
}

/// What changes, and whom to tell what became of it.
pub(super) struct Order {
    change: Change,
    reply: oneshot::Sender<StreamSnapshot>,
}

enum Change {
    Join(Box<(DestinationSpec, StreamKey)>),
    Leave(DestinationId),
    Mark(DestinationId, bool),
}

impl Handle {
    /// Sends the programme to one more destination, from its next keyframe on; one that is there already stays as it is. `None` when
    /// the stream ends or is over.
    pub async fn join(&self, spec: DestinationSpec, key: StreamKey) -> Option<StreamSnapshot> {
        self.order(Change::Join(Box::new((spec, key)))).await
    }

    /// Says goodbye to a destination, which costs the others nothing; one that is not there is no error. `None` as for [`Self::join`].
    pub async fn leave(&self, id: DestinationId) -> Option<StreamSnapshot> {
        self.order(Change::Leave(id)).await
    }

    /// Has the programme's bitrate follow this destination, or not any more; one that is not there is no error. `None` as for
    /// [`Self::join`].
    pub async fn mark(&self, id: DestinationId, primary: bool) -> Option<StreamSnapshot> {
        self.order(Change::Mark(id, primary)).await
    }

    async fn order(&self, change: Change) -> Option<StreamSnapshot> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order { change, reply }).await.ok()?;
        answer.await.ok()
    }
}

impl Stream {
    pub(super) fn on_order(&mut self, Order { change, reply }: Order) {
        // A stream that ends says goodbye to everybody; dropping the reply tells that it is too late.
        if !matches!(self.life.state(), State::Starting { .. } | State::Live { .. }) {
            return;
        }
        let moved = match change {
            Change::Join(newcomer) => self.admit(*newcomer),
            Change::Leave(id) => self.dismiss(id),
            Change::Mark(id, primary) => {
                self.destinations.iter().filter(|destination| destination.id() == id).for_each(|one| one.mark(primary));
                false
            }
        };
        if moved {
            self.ledger.destinations(self.destinations.iter().map(Destination::id).collect());
        }
        self.publish();
        // Who asked may have gone; the change is made all the same.
        let _gone = reply.send(self.snapshot.borrow().clone());
    }

    fn admit(&mut self, (spec, key): (DestinationSpec, StreamKey)) -> bool {
        if self.destinations.iter().any(|destination| destination.id() == spec.id) {
            return false;
        }
        info!(destination = %spec.id, "a destination joins");
        let destination = self.reach.start(spec, key, &self.fanout);
        self.destination_views.push(destination.snapshot());
        self.destinations.push(destination);
        true
    }

    fn dismiss(&mut self, id: DestinationId) -> bool {
        let Some(index) = self.destinations.iter().position(|destination| destination.id() == id) else { return false };
        info!(destination = %id, "a destination leaves");
        let destination = self.destinations.remove(index);
        self.destination_views.remove(index);
        self.reach.tracker.spawn(destination.stop());
        true
    }
}
