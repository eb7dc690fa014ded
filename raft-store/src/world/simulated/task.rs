//! Tasks in place of threads.

use std::future::Future;
use std::io;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::OptionalSend;
#[allow(deprecated, reason = "as in the real world")]
use openraft::impls::TokioRuntime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Process;

/// Runs `future` as a part of the process that calls.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(Process::current().run(future))
}

/// Where a process runs its tasks.
#[derive(Clone, Debug)]
pub struct Handle(Process);

impl Handle {
    /// Runs `future` there.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.0.run(future))
    }

    /// There is one runtime, which is entered already.
    pub fn enter(&self) -> Entered {
        Entered
    }
}

/// What the real one gives.
pub struct Entered;

pub(crate) fn spawn_blocking<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<R> {
    spawn(async move { work() })
}

pub(crate) fn spawn_reading<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn(future)
}

pub(crate) struct Threads(Handle);

impl Threads {
    pub(crate) fn new(_: &str, _: usize) -> io::Result<Self> {
        Ok(Self(Handle(Process::current())))
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.0
    }
}

pub(crate) struct Sender<T>(mpsc::UnboundedSender<T>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Sender<T> {
    pub(crate) fn send(&self, item: T) -> Result<(), mpsc::error::SendError<T>> {
        self.0.send(item)
    }
}

pub(crate) trait Worker: Send + 'static {
    type Item: Send + 'static;

    fn patience(&self) -> Option<Duration>;

    fn work(&mut self, batch: Vec<Self::Item>) -> bool;
}

pub(crate) fn queue<T>(length: usize) -> (Sender<T>, Queue<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Sender(sender), Queue { receiver, length })
}

pub(crate) struct Queue<T> {
    receiver: mpsc::UnboundedReceiver<T>,
    length: usize,
}

impl<T: Send + 'static> Queue<T> {
    /// The worker takes what waits, the disk takes its time, and then the work happens at once: what
    /// comes meanwhile waits, as behind a flush.
    pub(crate) fn start(mut self, _: &str, mut worker: impl Worker<Item = T>) -> io::Result<()> {
        let process = Process::current();
        spawn(async move {
            while let Some(batch) = self.next_batch(worker.patience()).await {
                process.disk().take_its_time().await;
                if !worker.work(batch) {
                    return;
                }
            }
        });
        Ok(())
    }

    async fn next_batch(&mut self, patience: Option<Duration>) -> Option<Vec<T>> {
        let first = match patience {
            Some(patience) => match tokio::time::timeout(patience, self.receiver.recv()).await {
                Ok(first) => first?,
                Err(_) => return Some(Vec::new()),
            },
            None => self.receiver.recv().await?,
        };
        let mut batch = vec![first];
        while batch.len() < self.length {
            match self.receiver.try_recv() {
                Ok(item) => batch.push(item),
                Err(_) => break,
            }
        }
        Some(batch)
    }
}

/// openraft's tasks are tasks of the process that started it.
#[derive(Debug)]
pub struct Runtime;

#[allow(deprecated, reason = "as in the real world")]
type Tokio = TokioRuntime;

impl AsyncRuntime for Runtime {
    type JoinError = <Tokio as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <Tokio as AsyncRuntime>::Sleep;
    type Instant = <Tokio as AsyncRuntime>::Instant;
    type TimeoutError = <Tokio as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Tokio as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <Tokio as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <Tokio as AsyncRuntime>::Mpsc;
    type Watch = <Tokio as AsyncRuntime>::Watch;
    type Oneshot = <Tokio as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Tokio::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        Tokio::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        Tokio::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        Tokio::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        join_error.is_panic()
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        Tokio::thread_rng()
    }

    fn new(_: usize) -> Self {
        Self
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, _: F) -> T {
        panic!("the simulation has one runtime, which is running")
    }

    async fn spawn_blocking<F, T>(work: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Ok(work())
    }
}
