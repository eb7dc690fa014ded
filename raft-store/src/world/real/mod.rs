//! The world as it is.

mod accept;
mod tables;

pub(crate) use self::tables::Tables;
pub(crate) use self::tables::Writes;

/// Files and directories.
pub(crate) mod fs {
    pub(crate) use std::fs::*;
    pub(crate) use std::os::unix::fs::FileExt;
}

/// Clocks.
pub mod time {
    pub use std::time::Instant;
    use std::time::SystemTime;

    /// The wall clock.
    pub fn wall() -> SystemTime {
        SystemTime::now()
    }
}

/// Tasks and threads.
pub mod task {
    use std::io;
    use std::sync::mpsc;
    use std::time::Duration;

    #[allow(deprecated, reason = "its new home is a crate that nothing else here needs")]
    pub(crate) use openraft::impls::TokioRuntime as Runtime;
    pub use tokio::runtime::Handle;
    pub use tokio::spawn;
    pub(crate) use tokio::task::spawn_blocking;

    /// Runs a future that reads files on a thread that may wait for the disk.
    pub(crate) fn spawn_reading<F>(future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let runtime = Handle::current();
        spawn_blocking(move || runtime.block_on(future))
    }

    /// Threads of its own for tasks that must not queue behind others. Can be dropped anywhere: a
    /// plain runtime must not be dropped by a task.
    pub(crate) struct Threads {
        handle: Handle,
        runtime: Option<tokio::runtime::Runtime>,
    }

    impl Threads {
        pub(crate) fn new(name: &str, count: usize) -> io::Result<Self> {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(count)
                .thread_name(name)
                .enable_all()
                .build()?;
            Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
        }

        pub(crate) fn handle(&self) -> &Handle {
            &self.handle
        }
    }

    impl Drop for Threads {
        fn drop(&mut self) {
            if let Some(runtime) = self.runtime.take() {
                runtime.shutdown_background();
            }
        }
    }

    /// Where to put work for a worker. Waits for room.
    pub(crate) type Sender<T> = mpsc::SyncSender<T>;

    /// A worker has a thread, which begins with `work` for each batch of what waits.
    pub(crate) trait Worker: Send + 'static {
        type Item: Send + 'static;

        /// Longest time until [`Self::work`] is called although nothing waits.
        fn patience(&self) -> Option<Duration>;

        /// Does everything that waited, at least one item unless patience ended. `false`: no more.
        fn work(&mut self, batch: Vec<Self::Item>) -> bool;
    }

    /// A queue of `length` for a worker that is started later, since it may be made of the sender.
    pub(crate) fn queue<T>(length: usize) -> (Sender<T>, Queue<T>) {
        let (sender, receiver) = mpsc::sync_channel(length);
        (sender, Queue { receiver, length })
    }

    /// What waits for a worker.
    pub(crate) struct Queue<T> {
        receiver: mpsc::Receiver<T>,
        length: usize,
    }

    impl<T: Send + 'static> Queue<T> {
        /// Runs `worker` on a thread called `name` until every sender is gone.
        pub(crate) fn start(self, name: &str, mut worker: impl Worker<Item = T>) -> io::Result<()> {
            let run = move || {
                while let Some(batch) = self.next_batch(worker.patience()) {
                    if !worker.work(batch) {
                        return;
                    }
                }
            };
            std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
        }

        /// Everything that waits.
        fn next_batch(&self, patience: Option<Duration>) -> Option<Vec<T>> {
            let first = match patience {
                Some(patience) => match self.receiver.recv_timeout(patience) {
                    Ok(item) => item,
                    Err(mpsc::RecvTimeoutError::Timeout) => return Some(Vec::new()),
                    Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                },
                None => self.receiver.recv().ok()?,
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
}

/// Connections.
pub mod net {
    use std::io;

    pub use std::net::TcpListener as Listener;
    pub(crate) use tokio::net::TcpStream as Stream;
    pub use tonic::transport::Channel;
    pub use tonic::transport::Endpoint;

    /// A channel that connects when it is first used, resolving the name anew each time.
    pub fn connect_lazy(endpoint: &Endpoint) -> Channel {
        endpoint.connect_lazy()
    }

    /// The same over connections that `connect` makes, of a `host:port`.
    pub fn connect_lazy_by<S, F>(endpoint: &Endpoint, connect: fn(String) -> F) -> Channel
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
    {
        let connector = tower::service_fn(move |uri: http::Uri| {
            let address = uri.authority().map_or_else(String::new, ToString::to_string);
            let connecting = connect(address);
            async move { connecting.await.map(hyper_util::rt::TokioIo::new) }
        });
        endpoint.connect_with_connector_lazy(connector)
    }

    /// The connections that arrive at `listener`, without end.
    pub(crate) fn incoming(
        listener: Listener,
    ) -> io::Result<impl futures::Stream<Item = io::Result<Stream>>> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Ok(super::accept::connections(listener))
    }

    /// A service that is told which node it belongs to, where several share a process: nobody here.
    pub(crate) fn of_this_node<S>(service: S) -> S {
        service
    }
}

/// One value for each node: one for the process.
#[derive(Debug, Default)]
pub struct PerNode<T>(T);

impl<T> PerNode<T> {
    /// Begins with `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value of this node.
    pub fn with<R>(&self, use_it: impl FnOnce(&T) -> R) -> R {
        use_it(&self.0)
    }
}

/// Tells a watcher that a vote is durable: nobody watches.
#[inline(always)]
pub(crate) fn promised(_: &crate::commit_log::VoteRecord) {}
