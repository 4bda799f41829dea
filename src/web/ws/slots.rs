//! How many sockets are open, in all and from each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// The places for sockets.
#[derive(Clone)]
pub(super) struct Slots {
    max: usize,
    max_per_address: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Process,
    Address,
}

/// One place; dropping it gives it back.
pub(super) struct Slot {
    taken: Arc<Mutex<Taken>>,
    address: Option<IpAddr>,
}

impl Slots {
    pub(super) fn new(max: usize, max_per_address: usize) -> Self {
        Self { max, max_per_address, taken: Arc::default() }
    }

    /// Takes a place; an unknown address counts for the whole only.
    pub(super) fn take(&self, address: Option<IpAddr>) -> Result<Slot, Full> {
        let address = address.map(network);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.max {
            return Err(Full::Process);
        }
        if let Some(address) = address {
            let here = taken.by_address.entry(address).or_default();
            if *here >= self.max_per_address {
                return Err(Full::Address);
            }
            *here += 1;
        }
        taken.all += 1;
        metrics::gauge!("jamcast_signal_connections").increment(1.0);
        Ok(Slot { taken: Arc::clone(&self.taken), address })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(address) = self.address
            && let Some(here) = taken.by_address.get_mut(&address)
        {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&address);
            }
        }
        metrics::gauge!("jamcast_signal_connections").decrement(1.0);
    }
}

/// What counts as one address: an IPv6 subscriber has a whole /64 (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_per_address_and_come_back() {
        let slots = Slots::new(3, 2);
        let [home, same_home, elsewhere] =
            ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map(|text| Some(text.parse::<IpAddr>().unwrap()));
        let first = slots.take(home).ok().unwrap();
        let _second = slots.take(same_home).ok().unwrap();
        assert_eq!(slots.take(home).err(), Some(Full::Address));
        let _third = slots.take(elsewhere).ok().unwrap();
        assert_eq!(slots.take(None).err(), Some(Full::Process));
        drop(first);
        assert!(slots.take(home).is_ok());
    }
}
