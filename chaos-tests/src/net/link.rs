//! How good each directed link is, changeable while traffic runs.
//!
//! Invariants: a change is seen by every packet that comes after the call has returned; a link from
//! a host to itself does not exist; qualities in the matrix are valid.
//!
//! Not here: what a quality does to a packet (`fate`, `schedule`), and which links to choose
//! ([`super::preset`]).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::{Serialize, Serializer};
use tokio::sync::watch;

use super::count::{Counters, Counts};

/// How one directed link treats packets. Probabilities are 0 to 1, both included, and each packet
/// is judged by itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// A link that is down drops everything without a word, also what is on its way.
    pub up: bool,
    /// Added to every packet.
    #[serde(rename = "delay_ms", serialize_with = "milliseconds")]
    pub delay: Duration,
    /// Up to this is added to the delay, evenly distributed. It does not change the order.
    #[serde(rename = "jitter_ms", serialize_with = "milliseconds")]
    pub jitter: Duration,
    /// Probability that a packet is dropped.
    pub loss: f64,
    /// Probability that a packet comes twice.
    pub duplicate: f64,
    /// Probability that a packet is held back so that later ones overtake it.
    pub reorder: f64,
    /// Probability that one bit behind the IP header flips; the receiver drops the packet by its
    /// checksum.
    pub corrupt: f64,
    /// Probability that one bit of TCP or UDP payload flips and the checksum is made to fit.
    pub corrupt_checked: f64,
    /// Bytes per second, IP headers included. What exceeds it waits, then is dropped.
    pub rate_bytes_per_s: Option<u64>,
}

impl Quality {
    /// A link that changes nothing.
    pub const PERFECT: Self = Self {
        up: true,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        corrupt: 0.0,
        corrupt_checked: 0.0,
        rate_bytes_per_s: None,
    };

    /// Whether anything about a packet is left to chance.
    pub(super) fn has_chance(&self) -> bool {
        !self.jitter.is_zero() || self.chances().iter().any(|chance| *chance > 0.0)
    }

    /// Whether anything can pass at all.
    pub(super) fn passes(&self) -> bool {
        self.up && self.loss < 1.0
    }

    fn chances(&self) -> [f64; 5] {
        [self.loss, self.duplicate, self.reorder, self.corrupt, self.corrupt_checked]
    }

    fn ensure_valid(&self) -> anyhow::Result<()> {
        for chance in self.chances() {
            ensure!((0.0..=1.0).contains(&chance), "a probability of {chance}");
        }
        ensure!(self.rate_bytes_per_s != Some(0), "a rate of 0: take the link down instead");
        Ok(())
    }
}

impl Default for Quality {
    fn default() -> Self {
        Self::PERFECT
    }
}

/// One direction between two hosts, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Link {
    /// The host that sends.
    pub from: String,
    /// The host that receives.
    pub to: String,
}

impl Link {
    /// The direction from one host to another.
    pub fn new(from: &str, to: &str) -> Self {
        Self { from: from.to_owned(), to: to.to_owned() }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)
    }
}

/// The quality of every directed link between a fixed set of hosts, and what each link did.
///
/// Clones are handles of the same matrix. Functions that take a link fail if it names an unknown
/// host or twice the same, and then change nothing.
#[derive(Clone)]
pub struct Matrix {
    shared: Arc<Shared>,
}

struct Shared {
    hosts: Vec<String>,
    table: watch::Sender<Arc<Table>>,
    counters: Vec<Counters>,
}

/// Qualities by link index.
#[derive(Clone)]
struct Table {
    default: Quality,
    own: Vec<Option<Quality>>,
}

impl Table {
    fn quality(&self, index: usize) -> &Quality {
        self.own[index].as_ref().unwrap_or(&self.default)
    }
}

impl Matrix {
    /// A perfect network. Names must be different.
    ///
    /// # Errors
    /// A name that comes twice, or is empty.
    pub fn new(hosts: &[&str]) -> anyhow::Result<Self> {
        for (number, host) in hosts.iter().enumerate() {
            ensure!(!host.is_empty(), "a host without a name");
            ensure!(!hosts[..number].contains(host), "two hosts named {host}");
        }
        let size = hosts.len() * hosts.len();
        let table = Table { default: Quality::PERFECT, own: vec![None; size] };
        let counters = std::iter::repeat_with(Counters::default).take(size).collect();
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        let table = watch::Sender::new(Arc::new(table));
        Ok(Self { shared: Arc::new(Shared { hosts, table, counters }) })
    }

    /// All hosts, in the order of their addresses.
    pub fn hosts(&self) -> &[String] {
        &self.shared.hosts
    }

    /// Every link of the matrix, by sender, then receiver.
    pub fn links(&self) -> Vec<Link> {
        let hosts = self.hosts();
        let pairs = hosts.iter().flat_map(|from| hosts.iter().map(move |to| (from, to)));
        pairs.filter(|(from, to)| from != to).map(|(from, to)| Link::new(from, to)).collect()
    }

    /// How a link is now.
    pub fn quality(&self, link: &Link) -> anyhow::Result<Quality> {
        let index = self.index(link)?;
        Ok(*self.shared.table.borrow().quality(index))
    }

    /// The quality of all links that have none of their own.
    pub fn set_default(&self, quality: Quality) -> anyhow::Result<()> {
        quality.ensure_valid()?;
        self.shared.table.send_modify(|table| Arc::make_mut(table).default = quality);
        Ok(())
    }

    /// Gives one link a quality of its own.
    pub fn set(&self, link: &Link, quality: Quality) -> anyhow::Result<()> {
        self.change(std::slice::from_ref(link), |own| *own = quality)
    }

    /// Changes some properties of some links, all at once, and leaves the others.
    pub fn change(&self, links: &[Link], change: impl Fn(&mut Quality)) -> anyhow::Result<()> {
        let indexes = self.indexes(links)?;
        let mut changed = Vec::with_capacity(links.len());
        let mut valid = Ok(());
        self.shared.table.send_if_modified(|table| {
            for index in &indexes {
                let mut quality = *table.quality(*index);
                change(&mut quality);
                valid = quality.ensure_valid();
                if valid.is_err() {
                    return false;
                }
                changed.push((*index, quality));
            }
            let table = Arc::make_mut(table);
            for (index, quality) in &changed {
                table.own[*index] = Some(*quality);
            }
            true
        });
        valid
    }

    /// Takes links down, all at once; their other properties stay.
    pub fn cut(&self, links: &[Link]) -> anyhow::Result<()> {
        self.change(links, |quality| quality.up = false)
    }

    /// Brings links up, all at once; their other properties stay.
    pub fn mend(&self, links: &[Link]) -> anyhow::Result<()> {
        self.change(links, |quality| quality.up = true)
    }

    /// Gives links the default quality again.
    pub fn reset(&self, links: &[Link]) -> anyhow::Result<()> {
        let indexes = self.indexes(links)?;
        self.shared.table.send_modify(|table| {
            let table = Arc::make_mut(table);
            for index in indexes {
                table.own[index] = None;
            }
        });
        Ok(())
    }

    /// Gives every link the default quality again, and brings the default up.
    pub fn heal(&self) {
        self.shared.table.send_modify(|table| {
            let table = Arc::make_mut(table);
            table.own.fill(None);
            table.default.up = true;
        });
    }

    /// What a link did so far.
    pub fn counts(&self, link: &Link) -> anyhow::Result<Counts> {
        Ok(self.shared.counters[self.index(link)?].counts())
    }

    /// What some links did so far, together.
    pub fn counts_of(&self, links: &[Link]) -> anyhow::Result<Counts> {
        let indexes = self.indexes(links)?;
        let counts = indexes.into_iter().map(|index| self.shared.counters[index].counts());
        Ok(counts.fold(Counts::default(), |sum, counts| sum.plus(&counts)))
    }

    /// What every link did so far, in the order of [`Self::links`].
    pub fn all_counts(&self) -> Vec<(Link, Counts)> {
        let counted = self.links().into_iter().map(|link| {
            let counts = self.counts(&link).unwrap_or_default();
            (link, counts)
        });
        counted.collect()
    }

    pub(super) fn index(&self, link: &Link) -> anyhow::Result<usize> {
        let place = |name: &str| {
            let place = self.hosts().iter().position(|host| host == name);
            place.with_context(|| format!("no host named {name}"))
        };
        let (from, to) = (place(&link.from)?, place(&link.to)?);
        ensure!(from != to, "{} has no link to itself", link.from);
        Ok(self.index_of(from, to))
    }

    fn indexes(&self, links: &[Link]) -> anyhow::Result<Vec<usize>> {
        links.iter().map(|link| self.index(link)).collect()
    }

    /// Index of the link between two hosts, given by their place in [`Self::hosts`].
    pub(super) fn index_of(&self, from: usize, to: usize) -> usize {
        from * self.hosts().len() + to
    }

    /// How many link indexes there are.
    pub(super) fn size(&self) -> usize {
        self.shared.counters.len()
    }

    pub(super) fn counters(&self, index: usize) -> &Counters {
        &self.shared.counters[index]
    }

    pub(super) fn view(&self) -> View {
        let mut changes = self.shared.table.subscribe();
        let table = changes.borrow_and_update().clone();
        View { changes, table }
    }
}

/// A reader's copy of the table, renewed as soon as the matrix changes. Asking costs one load.
pub(super) struct View {
    changes: watch::Receiver<Arc<Table>>,
    table: Arc<Table>,
}

impl View {
    pub fn quality(&mut self, index: usize) -> Quality {
        if self.changes.has_changed().unwrap_or(false) {
            self.table = self.changes.borrow_and_update().clone();
        }
        *self.table.quality(index)
    }

    /// Waits until the link is as wished; for ever if the matrix is gone.
    ///
    /// Cancel safe.
    pub async fn until(&mut self, index: usize, wished: impl Fn(&Quality) -> bool) {
        // Waiting also marks the change as seen, so the copy has to be renewed here.
        let reached = self.changes.wait_for(|table| wished(table.quality(index))).await;
        let table = reached.ok().map(|table| table.clone());
        match table {
            Some(table) => self.table = table,
            None => std::future::pending().await,
        }
    }
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_quality_hides_the_default_until_healed() {
        let matrix = Matrix::new(&["a", "b"]).unwrap();
        let (there, back) = (Link::new("a", "b"), Link::new("b", "a"));
        let slow = Quality { delay: Duration::from_millis(5), ..Quality::PERFECT };
        let mut view = matrix.view();
        matrix.set_default(slow).unwrap();
        matrix.cut(std::slice::from_ref(&there)).unwrap();
        assert_eq!(matrix.quality(&there).unwrap(), Quality { up: false, ..slow });
        assert_eq!(matrix.quality(&back).unwrap(), slow);
        assert!(!view.quality(matrix.index(&there).unwrap()).up);
        matrix.mend(std::slice::from_ref(&there)).unwrap();
        assert_eq!(matrix.quality(&there).unwrap(), slow);
        matrix.set(&there, Quality { loss: 0.5, ..Quality::PERFECT }).unwrap();
        matrix.heal();
        assert_eq!(view.quality(matrix.index(&there).unwrap()), slow);
    }

    #[tokio::test]
    async fn view_is_fresh_after_waiting() {
        let matrix = Matrix::new(&["a", "b"]).unwrap();
        let (link, mut view) = (Link::new("a", "b"), matrix.view());
        let index = matrix.index(&link).unwrap();
        matrix.cut(std::slice::from_ref(&link)).unwrap();
        view.until(index, |quality| !quality.up).await;
        assert!(!view.quality(index).up);
        matrix.heal();
        view.until(index, |quality| quality.up).await;
        assert!(view.quality(index).up);
    }

    #[test]
    fn refuses_what_makes_no_sense_and_changes_nothing() {
        let matrix = Matrix::new(&["a", "b"]).unwrap();
        let link = Link::new("a", "b");
        assert!(matrix.set(&link, Quality { loss: 1.5, ..Quality::PERFECT }).is_err());
        assert!(matrix.set(&link, Quality { loss: f64::NAN, ..Quality::PERFECT }).is_err());
        let still = Quality { rate_bytes_per_s: Some(0), ..Quality::PERFECT };
        assert!(matrix.set_default(still).is_err());
        assert!(matrix.cut(&[link.clone(), Link::new("a", "c")]).is_err());
        assert!(matrix.cut(&[Link::new("a", "a")]).is_err());
        assert_eq!(matrix.quality(&link).unwrap(), Quality::PERFECT);
        assert!(Matrix::new(&["a", "a"]).is_err());
    }
}
