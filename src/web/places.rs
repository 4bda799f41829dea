//! How many of something are open at once, in all and for each caller.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// The places for one kind of thing. Clones share them.
#[derive(Clone)]
pub struct Places<K> {
    gauge: &'static str,
    max: usize,
    max_each: usize,
    taken: Arc<Mutex<Taken<K>>>,
}

struct Taken<K> {
    all: usize,
    by_caller: HashMap<K, usize>,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Process,
    Caller,
}

/// One place; dropping it gives it back.
pub struct Place<K: Hash + Eq> {
    gauge: &'static str,
    taken: Arc<Mutex<Taken<K>>>,
    caller: Option<K>,
}

impl<K: Hash + Eq + Clone> Places<K> {
    /// `gauge` is the metric that tells how many are taken.
    pub fn new(gauge: &'static str, max: usize, max_each: usize) -> Self {
        let taken = Taken { all: 0, by_caller: HashMap::new() };
        Self { gauge, max, max_each, taken: Arc::new(Mutex::new(taken)) }
    }

    /// Takes a place; one for nobody in particular counts for the whole only.
    ///
    /// # Errors
    /// [`Full`] when the process or the caller has as many as it may.
    pub fn take(&self, caller: Option<K>) -> Result<Place<K>, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.max {
            return Err(Full::Process);
        }
        if let Some(caller) = &caller {
            let here = taken.by_caller.get(caller).copied().unwrap_or_default();
            if here >= self.max_each {
                return Err(Full::Caller);
            }
            taken.by_caller.insert(caller.clone(), here + 1);
        }
        taken.all += 1;
        metrics::gauge!(self.gauge).increment(1.0);
        Ok(Place { gauge: self.gauge, taken: Arc::clone(&self.taken), caller })
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(caller) = &self.caller
            && let Some(here) = taken.by_caller.get_mut(caller)
        {
            *here -= 1;
            if *here == 0 {
                taken.by_caller.remove(caller);
            }
        }
        metrics::gauge!(self.gauge).decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_per_caller_and_come_back() {
        let places = Places::new("jamcast_test_places", 3, 2);
        let first = places.take(Some("anna")).expect("free");
        let _second = places.take(Some("anna")).expect("free");
        assert_eq!(places.take(Some("anna")).err(), Some(Full::Caller));
        let _third = places.take(Some("ben")).expect("free");
        assert_eq!(places.take(None).err(), Some(Full::Process));
        drop(first);
        assert!(places.take(Some("anna")).is_ok());
        assert!(places.taken.lock().expect("one thread").by_caller.len() <= 2, "who has none is forgotten");
    }
}
