//! What happened on a directed link, as numbers, so that a fault can show that it had an effect.
//!
//! Invariant: counters only grow. When nothing is on its way,
//! `offered + duplicated = forwarded + dropped`, in packets.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one directed link did. Packets, where the name says nothing else; for a proxy, a
        /// packet is what one read returned.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// [`Counts`] that grow.
        #[derive(Default)]
        pub(super) struct Counters {
            $(pub $name: Counter,)*
        }

        impl Counters {
            /// The numbers now; exact only while nothing is sent.
            pub fn counts(&self) -> Counts {
                Counts { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }

        impl Counts {
            /// What came after `earlier`, which must be of the same link.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($name: self.$name.saturating_sub(earlier.$name),)* }
            }

            /// Both together.
            #[must_use]
            pub fn plus(&self, other: &Self) -> Self {
                Self { $($name: self.$name + other.$name,)* }
            }
        }
    };
}

counters! {
    /// Came from the sending host.
    offered_packets,
    /// Bytes of these.
    offered_bytes,
    /// Handed to the receiving host, copies included.
    forwarded_packets,
    /// Bytes of these.
    forwarded_bytes,
    /// Dropped as the link was down when they came or when they were to leave. For a proxy that
    /// closes: connections closed or refused.
    dropped_cut,
    /// Dropped by chance.
    dropped_loss,
    /// Dropped as the queue before the rate limit, or the memory for delayed packets, was full.
    dropped_overflow,
    /// Dropped as the receiving host did not take them.
    dropped_undeliverable,
    /// Proxy only: waited for a link that was down.
    held_cut,
    /// Proxy only: waited as long as it would take to send lost data again.
    held_loss,
    /// Copies that were added.
    duplicated,
    /// Handed over after one that was sent later. For a proxy: held back.
    reordered,
    /// One bit flipped, which the receiver's checksum shows.
    corrupted,
    /// One bit of payload flipped, checksum made to fit: it reaches the application.
    corrupted_checked,
    /// Left later than at once.
    delayed,
}

impl Counts {
    /// Packets dropped, for any cause.
    pub fn dropped(&self) -> u64 {
        self.dropped_cut + self.dropped_loss + self.dropped_overflow + self.dropped_undeliverable
    }

    /// Packets on their way: neither handed over nor dropped.
    pub fn waiting(&self) -> u64 {
        (self.offered_packets + self.duplicated)
            .saturating_sub(self.forwarded_packets + self.dropped())
    }
}

/// One number that grows.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub fn increment(&self) {
        self.add(1);
    }

    pub fn add(&self, amount: u64) {
        // Nothing else is ordered by these numbers.
        self.0.fetch_add(amount, Ordering::Relaxed);
    }
}
