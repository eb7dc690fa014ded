//! A simulated process: who runs, who stands still, who is dead.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Disk;
use super::net;
use super::trace;

/// Where every disk is mounted.
const ROOT: &str = "/sim";

thread_local! {
    static CURRENT: RefCell<Option<Process>> = const { RefCell::new(None) };
}

static PROCESSES: Mutex<BTreeMap<(u64, u64), Process>> = Mutex::new(BTreeMap::new());

/// One incarnation of a node.
#[derive(Clone)]
pub struct Process(Arc<Inner>);

struct Inner {
    node_id: u64,
    incarnation: u64,
    disk: Disk,
    life: Mutex<Life>,
    died: watch::Sender<Option<String>>,
    clock_wrong_ms: AtomicI64,
}

enum Life {
    Running,
    /// Stands still; these tasks wanted to run.
    Paused(Vec<Waker>),
    Dead,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.node_id, self.0.incarnation)
    }
}

impl Process {
    /// Starts node `node_id` for the time `incarnation` on `disk`.
    pub fn start(node_id: u64, incarnation: u64, disk: Disk) -> Self {
        let process = Self(Arc::new(Inner {
            node_id,
            incarnation,
            disk,
            life: Mutex::new(Life::Running),
            died: watch::Sender::new(None),
            clock_wrong_ms: AtomicI64::new(0),
        }));
        PROCESSES.lock().insert((node_id, incarnation), process.clone());
        process
    }

    /// The process whose task runs now.
    ///
    /// # Panics
    /// Outside of any process: product code must run in one.
    pub fn current() -> Self {
        match Self::try_current() {
            Some(process) => process,
            None => panic!("this runs outside of every simulated process"),
        }
    }

    /// The process whose task runs now, if one does.
    pub fn try_current() -> Option<Self> {
        CURRENT.with(|current| current.borrow().clone())
    }

    /// The node.
    pub fn node_id(&self) -> u64 {
        self.0.node_id
    }

    /// How often the node was started before.
    pub fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    /// Its disk.
    pub fn disk(&self) -> &Disk {
        &self.0.disk
    }

    /// Where it sees its disk. Another incarnation sees it elsewhere, so that nothing a dead one
    /// still does can reach it.
    pub fn directory(&self) -> PathBuf {
        Path::new(ROOT).join(format!("{self:?}"))
    }

    /// The process that sees its disk at the beginning of `path`, and the rest of the path.
    pub(super) fn of_path(path: &Path) -> Option<(Self, &Path)> {
        let rest = path.strip_prefix(ROOT).ok()?;
        let mount = rest.components().next()?;
        let (node_id, incarnation) = mount.as_os_str().to_str()?.split_once('.')?;
        let key = (node_id.parse().ok()?, incarnation.parse().ok()?);
        let process = PROCESSES.lock().get(&key).cloned()?;
        Some((process, rest.strip_prefix(mount).ok()?))
    }

    /// Runs `future` as a part of this process.
    pub fn run<F: Future>(&self, future: F) -> InProcess<F> {
        InProcess { process: self.clone(), future: Box::pin(future) }
    }

    /// Does something at once as a part of this process.
    pub fn now<R>(&self, work: impl FnOnce() -> R) -> R {
        let _inside = Inside::enter(self);
        work()
    }

    /// Ends it at once, as `kill -9` does. Later calls change nothing.
    pub fn kill(&self, why: &str) {
        if std::mem::replace(&mut *self.0.life.lock(), Life::Dead).is_dead() {
            return;
        }
        trace::note(format_args!("{self:?} dies: {why}"));
        net::process_died(self);
        self.0.died.send_replace(Some(why.to_owned()));
    }

    /// Whether it has ended.
    pub fn is_dead(&self) -> bool {
        self.0.life.lock().is_dead()
    }

    /// Resolves when it has ended, with the reason.
    pub async fn dead(&self) -> String {
        let mut died = self.0.died.subscribe();
        match died.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Lets it stand still, as SIGSTOP does.
    pub fn pause(&self) {
        let mut life = self.0.life.lock();
        if matches!(*life, Life::Running) {
            trace::note(format_args!("{self:?} stands still"));
            *life = Life::Paused(Vec::new());
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        let wakers = {
            let mut life = self.0.life.lock();
            match &mut *life {
                Life::Paused(wakers) => {
                    let wakers = std::mem::take(wakers);
                    *life = Life::Running;
                    wakers
                }
                Life::Running | Life::Dead => return,
            }
        };
        trace::note(format_args!("{self:?} goes on"));
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Sets its wall clock wrong by this much.
    pub fn set_clock_wrong_ms(&self, wrong_ms: i64) {
        trace::note(format_args!("{self:?} has a clock {wrong_ms} ms wrong"));
        self.0.clock_wrong_ms.store(wrong_ms, Ordering::Relaxed);
    }

    pub(super) fn clock_wrong_ms(&self) -> i64 {
        self.0.clock_wrong_ms.load(Ordering::Relaxed)
    }

    /// Whether a task of it may run now; if not, it is woken when it may.
    pub(super) fn may_run(&self, context: &Context<'_>) -> bool {
        match &mut *self.0.life.lock() {
            Life::Running => true,
            Life::Paused(wakers) => {
                wakers.push(context.waker().clone());
                false
            }
            Life::Dead => false,
        }
    }
}

impl Life {
    fn is_dead(&self) -> bool {
        matches!(self, Self::Dead)
    }
}

/// A future that is polled only while its process runs.
pub struct InProcess<F> {
    process: Process,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for InProcess<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if !self.process.may_run(context) {
            return Poll::Pending;
        }
        let _inside = Inside::enter(&self.process);
        let outcome = self.future.as_mut().poll(context);
        // What it did last, it did not live to tell.
        if self.process.is_dead() { Poll::Pending } else { outcome }
    }
}

/// While it lives, the process is the current one.
struct Inside(Option<Process>);

impl Inside {
    fn enter(process: &Process) -> Self {
        Self(CURRENT.with(|current| current.borrow_mut().replace(process.clone())))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let before = self.0.take();
        CURRENT.with(|current| *current.borrow_mut() = before);
    }
}
