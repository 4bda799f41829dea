//! Places of participants, each under a number: whose line breaks keeps its place for a while and takes it again by that number.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::model::role::RoomGrant;
use crate::proto::signal::Hidden;
use crate::web::seat::Seat;

/// All places that can be taken again.
#[derive(Clone)]
pub(super) struct Cloakroom {
    keep_for: Duration,
    places: Arc<Mutex<HashMap<String, Place>>>,
}

struct Place {
    seat: Arc<Seat>,
    grant: RoomGrant,
    taken: CancellationToken,
}

/// The number of a place. Dropping it gives the place up, [`Ticket::keep`] does so later; once somebody has taken the place by the
/// number, neither does anything.
pub(super) struct Ticket {
    cloakroom: Cloakroom,
    number: String,
    taken: CancellationToken,
}

impl Cloakroom {
    pub(super) fn new(keep_for: Duration) -> Self {
        Self { keep_for, places: Arc::default() }
    }

    pub(super) const fn keep_for(&self) -> Duration {
        self.keep_for
    }

    /// Gives out a number that nobody can guess: 244 random bits.
    pub(super) fn check_in(&self, seat: Arc<Seat>, grant: RoomGrant) -> Ticket {
        let number = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let taken = CancellationToken::new();
        let place = Place { seat, grant, taken: taken.clone() };
        self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(number.clone(), place);
        Ticket { cloakroom: self.clone(), number, taken }
    }

    /// Takes the place of this number, also from a line that does not know yet that it is broken. A number is good once.
    pub(super) fn redeem(&self, number: &Hidden) -> Option<(Arc<Seat>, RoomGrant)> {
        let place = self.remove(number.expose())?;
        place.taken.cancel();
        Some((place.seat, place.grant))
    }

    fn remove(&self, number: &str) -> Option<Place> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(number)
    }
}

impl Ticket {
    pub(super) fn number(&self) -> Hidden {
        Hidden::new(self.number.clone())
    }

    /// Whether somebody has taken the place by the number.
    pub(super) fn is_taken(&self) -> bool {
        self.taken.is_cancelled()
    }

    /// Waits until somebody takes the place by the number.
    pub(super) async fn taken(&self) {
        self.taken.cancelled().await;
    }

    /// Holds the place for whoever comes back in time.
    pub(super) fn keep(self) {
        tokio::spawn(async move {
            tokio::select! {
                () = self.taken.cancelled() => {}
                () = tokio::time::sleep(self.cloakroom.keep_for) => {}
            }
            if let Some(Place { seat, .. }) = self.cloakroom.remove(&self.number) {
                tracing::info!(room = %seat.room, participant = %seat.participant, "participant left; it did not come back in time");
            }
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Dropped outside the lock: the last of a seat leaves the room.
        drop(self.cloakroom.remove(&self.number));
    }
}
