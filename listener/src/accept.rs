//! The accept loop: from a bound socket to a stream of connections, within limits.
//!
//! Invariants: the loop itself never waits for a client, only for the system and for the
//! application to take connections; it ends when [`Incoming`] is dropped, and nothing else ends it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio_rustls::rustls::ServerConfig;
use tokio_stream::Stream;
use tracing::debug;
use tracing::warn;

use crate::connection::Connection;
use crate::connection::Transport;
use crate::handshake::HandshakeError;
use crate::handshake::handshake;
use crate::metrics::PortMetrics;
use crate::metrics::Refusal;

/// How much strangers may ask of a port.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections open at once. Each costs a file descriptor and some 50 KiB of buffers.
    pub connections_max: usize,
    /// Clients that are connected and have not finished the handshake. Each costs little, but
    /// without a bound a stranger could use up `connections_max` by saying nothing.
    pub handshakes_max: usize,
    /// How long a handshake may take. A client across the world needs less than a second.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            handshakes_max: 1_024,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// A bound port on which nothing is accepted yet.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    limits: Limits,
    labels: Vec<metrics::Label>,
}

impl Listener {
    /// Binds `address` (`host:port`; port 0 takes a free one). Without `tls`, only plaintext is
    /// accepted.
    ///
    /// # Errors
    /// What the system says: the address is in use, is not ours, or its name does not resolve.
    pub async fn bind(address: &str, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        Ok(Self { tcp, tls, limits: Limits::default(), labels: Vec::new() })
    }

    /// Replaces the default limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Adds labels to every metric of this port, to tell several ports of a process apart.
    pub fn labels(mut self, labels: Vec<metrics::Label>) -> Self {
        self.labels = labels;
        self
    }

    /// The address that was bound, with the real port.
    ///
    /// # Errors
    /// What the system says; not seen on a bound socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Starts to accept. Must be called within a tokio runtime.
    ///
    /// Dropping the stream closes the port; connections that were handed out stay open.
    pub fn into_incoming(self) -> Incoming {
        // Small: what waits here has sent its preface and expects an answer soon.
        let (ready, receiver) = mpsc::channel(64);
        let acceptor = Acceptor {
            tcp: self.tcp,
            tls: self.tls,
            connections: Arc::new(Semaphore::new(self.limits.connections_max)),
            handshakes: Arc::new(Semaphore::new(self.limits.handshakes_max)),
            handshake_timeout: self.limits.handshake_timeout,
            metrics: PortMetrics::new(self.labels),
            ready,
        };
        // Ends by itself: the channel closes when the stream is dropped.
        tokio::spawn(acceptor.run());
        Incoming { receiver }
    }
}

/// The connections of a port, in the order in which their handshakes ended. Never ends and never
/// yields an error: failures to accept are waited out.
pub struct Incoming {
    receiver: mpsc::Receiver<Connection>,
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

struct Acceptor {
    tcp: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    handshake_timeout: Duration,
    metrics: PortMetrics,
    ready: mpsc::Sender<Connection>,
}

impl Acceptor {
    async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            let accepted = tokio::select! {
                () = self.ready.closed() => return,
                accepted = self.tcp.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    backoff.reset();
                    self.admit(tcp, peer);
                }
                // The client gave up while it was in the queue.
                Err(error) if is_about_one_client(&error) => {}
                Err(error) => {
                    self.metrics.accept_failed();
                    let pause = backoff.next();
                    warn!(%error, ?pause, "could not accept connections");
                    tokio::select! {
                        () = self.ready.closed() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// Starts the handshake in a task of its own, or closes the connection when a limit is hit.
    fn admit(&self, tcp: TcpStream, peer: SocketAddr) {
        let Ok(connection) = Arc::clone(&self.connections).try_acquire_owned() else {
            debug!(%peer, "connection refused: too many are open");
            return self.metrics.refused(Refusal::TooManyConnections);
        };
        let Ok(handshaking) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            debug!(%peer, "connection refused: too many handshakes are under way");
            return self.metrics.refused(Refusal::TooManyHandshakes);
        };
        let newcomer = Newcomer {
            tcp,
            peer,
            connection,
            handshaking,
            tls: self.tls.clone(),
            timeout: self.handshake_timeout,
            metrics: self.metrics.clone(),
        };
        // Bounded in number by the semaphores and in time by the time-out.
        tokio::spawn(newcomer.handshake(self.ready.clone()));
    }
}

/// A client that has connected and not spoken.
struct Newcomer {
    tcp: TcpStream,
    peer: SocketAddr,
    connection: OwnedSemaphorePermit,
    handshaking: OwnedSemaphorePermit,
    tls: Option<Arc<ServerConfig>>,
    timeout: Duration,
    metrics: PortMetrics,
}

impl Newcomer {
    async fn handshake(self, ready: mpsc::Sender<Connection>) {
        let Self { tcp, peer, connection, handshaking, tls, timeout, metrics } = self;
        // Answers are small and wait for nothing: without this, Nagle's algorithm holds them back.
        let (Ok(local), Ok(())) = (tcp.local_addr(), tcp.set_nodelay(true)) else { return };
        let transport = tokio::select! {
            () = ready.closed() => return,
            done = tokio::time::timeout(timeout, handshake(tcp, tls)) => done,
        };
        drop(handshaking);
        let transport = match transport {
            Ok(Ok(transport)) => transport,
            Ok(Err(HandshakeError::Silent)) => return,
            Ok(Err(error)) => {
                debug!(%peer, %error, "connection refused");
                return metrics.refused(Refusal::Malformed);
            }
            Err(_) => {
                debug!(%peer, ?timeout, "connection refused: the handshake took too long");
                return metrics.refused(Refusal::Timeout);
            }
        };
        let open = metrics.open(match transport {
            Transport::Plain(_) => "plaintext",
            Transport::Checked(_) => "checked",
            Transport::Tls(_) => "tls",
        });
        let connection = Connection::new(transport, peer, local, connection, open);
        // An error means that the port was closed meanwhile; the connection goes with it.
        let _closed = ready.send(connection).await;
    }
}

/// Errors that concern the connection at the head of the queue and not the port (accept(2)).
fn is_about_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Pauses after failures of the port: without file descriptors an accept fails at once, again and
/// again, and the same queue head is offered each time.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(1);

    fn next(&mut self) -> Duration {
        let pause = Self::FIRST.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        pause.min(Self::LONGEST)
    }

    fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_bound_and_starts_over() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..9).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next(), Backoff::FIRST);
    }

    #[test]
    fn a_lack_of_descriptors_is_about_the_port() {
        let emfile = io::Error::from_raw_os_error(24);
        let aborted = io::Error::from(io::ErrorKind::ConnectionAborted);
        assert!(!is_about_one_client(&emfile));
        assert!(is_about_one_client(&aborted));
    }
}
