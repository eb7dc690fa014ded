//! TCP forwarders on loopback that obey the matrix: what is left where there is no root.
//!
//! Each [`Proxy::route`] is a listener for one directed pair of hosts; `from` is told its address
//! instead of that of `to`. Each [`Proxy::front`] is one for all who connect to `to`, for hosts that
//! tell each other where they are; who it is shows in the process that connects. What is read at once, at most [`CHUNK_BYTES_MAX`], counts as a packet.
//!
//! TCP repairs what a network breaks, so the matrix is obeyed as an application would see it: lost,
//! corrupted or overtaken packets are late ones, copies have no effect, `corrupt_checked` flips a
//! bit. A link that is down holds data until it is up, or closes connections ([`OnCut`]).
//!
//! Coarser than [`super::Network`]: a connection is accepted even if the link is down, and then
//! hangs; delays are rounded to about a millisecond; after a partition data flows at once, where TCP
//! would wait for its next retransmission; only TCP passes. What is on its way when a connection
//! breaks stays counted as such.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::count::{Counters, Counts};
use super::fate::{Damage, Fate, Fates};
use super::link::{Link, Matrix, Quality, View};
use super::network::CLIENTS;
use super::resident::Residents;
use super::schedule::{REORDER_HOLD, Schedule};

/// At most this is one packet.
const CHUNK_BYTES_MAX: usize = 16 * 1024;
/// Chunks on their way in one direction of a connection; then the sender has to wait.
const CHUNKS_MAX: usize = 128;
/// How late lost data comes: the shortest time after which Linux sends again.
const RETRANSMIT: Duration = Duration::from_millis(200);
/// Each loss of the same data doubles that time, up to so many losses.
const RETRANSMITS_MAX: u32 = 6;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// What a link that goes down does to its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCut {
    /// Nothing passes until the link is up again, as in a partition.
    Hold,
    /// They are closed, new ones too, as by a firewall that rejects.
    Close,
}

/// Forwarders between named hosts. All stop when this is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    matrix: Matrix,
    on_cut: OnCut,
    links: Vec<Mutex<LinkState>>,
}

/// Chance and pace of one directed link, for all its connections together.
struct LinkState {
    fates: Fates,
    schedule: Schedule,
}

impl Proxy {
    /// Makes a perfect network without routes. `seed` decides all that is left to chance.
    pub fn start(hosts: &[&str], seed: u64, on_cut: OnCut) -> anyhow::Result<Self> {
        let matrix = Matrix::new(hosts)?;
        let link = |index| {
            Mutex::new(LinkState { fates: Fates::new(seed, index), schedule: Schedule::default() })
        };
        let links = (0..matrix.size()).map(link).collect();
        // Of its own, so that a busy test does not look like a slow network.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("net-proxy")
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared { matrix, on_cut, links });
        Ok(Self { shared, runtime: Some(runtime) })
    }

    /// Opens a way from one host to a TCP address of another. Returns where `from` has to connect.
    pub fn route(&self, from: &str, to: &str, target: SocketAddr) -> anyhow::Result<SocketAddr> {
        let there = self.shared.matrix.index(&Link::new(from, to))?;
        let back = self.shared.matrix.index(&Link::new(to, from))?;
        let shared = self.shared.clone();
        self.listen(move |stream| {
            let connection = Connection { shared: shared.clone(), there, back };
            tokio::spawn(connection.serve(stream, target));
        })
    }

    /// Opens a way to a TCP address of a host for all others. Returns where they have to connect. Who
    /// is not one of `residents` counts as [`CLIENTS`], which must be one of the hosts.
    pub fn front(
        &self,
        to: &str,
        target: SocketAddr,
        residents: Residents,
    ) -> anyhow::Result<SocketAddr> {
        // Whether the hosts exist shows here, not when somebody connects.
        self.shared.matrix.index(&Link::new(CLIENTS, to))?;
        let front = Arc::new(Front { shared: self.shared.clone(), to: to.to_owned(), residents });
        self.listen(move |stream| {
            tokio::spawn(front.clone().serve(stream, target));
        })
    }

    fn listen(&self, serve: impl Fn(TcpStream) + Send + 'static) -> anyhow::Result<SocketAddr> {
        let runtime = self.runtime.as_ref().context("the proxy is stopped")?;
        let listener = StdTcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let _inside = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        runtime.spawn(async move {
            loop {
                // An error of accept is one of that connection, or of too many open files.
                match listener.accept().await {
                    Ok((stream, _)) => serve(stream),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(address)
    }

    /// The links, to change and to ask.
    pub fn links(&self) -> &Matrix {
        &self.shared.matrix
    }

    /// What every link did so far.
    pub fn counters(&self) -> Vec<(Link, Counts)> {
        self.shared.matrix.all_counts()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting is not allowed where tests are async. Sockets close within moments.
            runtime.shutdown_background();
        }
    }
}

/// All that is needed to tell who connects to a host.
struct Front {
    shared: Arc<Shared>,
    to: String,
    residents: Residents,
}

impl Front {
    async fn serve(self: Arc<Self>, mut stream: TcpStream, target: SocketAddr) {
        let (Ok(near), Ok(far)) = (stream.peer_addr(), stream.local_addr()) else { return };
        let residents = self.residents.clone();
        let Ok(who) = tokio::task::spawn_blocking(move || residents.who(near, far)).await else {
            return;
        };
        let from = who.as_deref().unwrap_or(CLIENTS);
        let matrix = &self.shared.matrix;
        let links =
            (matrix.index(&Link::new(from, &self.to)), matrix.index(&Link::new(&self.to, from)));
        if let (Ok(there), Ok(back)) = links {
            let connection = Connection { shared: self.shared.clone(), there, back };
            connection.serve(stream, target).await;
        } else if let Ok(mut onward) = TcpStream::connect(target).await {
            // A host that asks itself needs no network. Errors end both connections.
            let _copied = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
        }
    }
}

/// One accepted connection and the links of its two directions.
struct Connection {
    shared: Arc<Shared>,
    there: usize,
    back: usize,
}

impl Connection {
    async fn serve(self, stream: TcpStream, target: SocketAddr) {
        match self.shared.on_cut {
            // Errors end both connections, which is all there is to tell.
            OnCut::Hold => drop(self.carry(stream, target).await),
            OnCut::Close => {
                // Counted before anybody can see the end of the connection, and for the way there if
                // both are cut, whichever was noticed first.
                let cut = async |index| {
                    let mut view = self.shared.matrix.view();
                    view.until(index, |quality| !quality.passes()).await;
                    let there_passes = view.quality(self.there).passes();
                    let counted = if there_passes { self.back } else { self.there };
                    self.shared.matrix.counters(counted).dropped_cut.increment();
                };
                tokio::select! {
                    biased;
                    () = cut(self.there) => {}
                    () = cut(self.back) => {}
                    _ = self.carry(stream, target) => {}
                }
            }
        }
    }

    async fn carry(&self, stream: TcpStream, target: SocketAddr) -> anyhow::Result<()> {
        // What a handshake needs: both directions.
        for index in [self.there, self.back] {
            self.shared.direction(index).pass().await;
        }
        let state = stream.ready(Interest::READABLE | Interest::WRITABLE).await?;
        if state.is_read_closed() {
            // It gave up before it would have been connected.
            return Ok(());
        }
        let onward = timeout(CONNECT_LIMIT, TcpStream::connect(target)).await??;
        stream.set_nodelay(true)?;
        onward.set_nodelay(true)?;
        let (near_read, near_write) = stream.into_split();
        let (far_read, far_write) = onward.into_split();
        tokio::try_join!(
            self.shared.pump(self.there, near_read, far_write),
            self.shared.pump(self.back, far_read, near_write),
        )?;
        Ok(())
    }
}

/// One direction of one connection.
struct Direction<'a> {
    index: usize,
    view: View,
    counters: &'a Counters,
}

/// What was read at once.
struct Chunk {
    at: Instant,
    bytes: Vec<u8>,
}

impl Shared {
    fn direction(&self, index: usize) -> Direction<'_> {
        Direction { index, view: self.matrix.view(), counters: self.matrix.counters(index) }
    }

    /// Carries bytes until the end of the stream or an error.
    async fn pump(
        &self,
        index: usize,
        reader: OwnedReadHalf,
        writer: OwnedWriteHalf,
    ) -> anyhow::Result<()> {
        let (queue, queued) = mpsc::channel(CHUNKS_MAX);
        let incoming = self.read(index, reader, queue);
        let outgoing = self.direction(index).write(queued, writer);
        tokio::try_join!(incoming, outgoing)?;
        Ok(())
    }

    async fn read(
        &self,
        index: usize,
        mut reader: OwnedReadHalf,
        queue: mpsc::Sender<Chunk>,
    ) -> anyhow::Result<()> {
        let mut direction = self.direction(index);
        let mut buffer = vec![0; CHUNK_BYTES_MAX];
        loop {
            let length = reader.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            let bytes = buffer[..length].to_vec();
            let chunk = direction.judge(&self.links[index], bytes);
            if queue.send(chunk).await.is_err() {
                // The writer has failed and says why.
                return Ok(());
            }
        }
    }
}

impl Direction<'_> {
    /// Decides what becomes of a chunk that comes now.
    fn judge(&mut self, link: &Mutex<LinkState>, mut bytes: Vec<u8>) -> Chunk {
        let now = Instant::now();
        let quality = self.view.quality(self.index);
        let mut link = link.lock().unwrap_or_else(PoisonError::into_inner);
        self.counters.offered_packets.increment();
        self.counters.offered_bytes.add(bytes.len() as u64);
        let mut fate = link.fates.draw(&quality);
        let mut late = Duration::ZERO;
        let mut losses = 0;
        while quality.passes() && broken(&fate) && losses < RETRANSMITS_MAX {
            late += RETRANSMIT * 2_u32.pow(losses);
            losses += 1;
            if fate.damage == Some(Damage::Wire) {
                self.counters.corrupted.increment();
            }
            fate = link.fates.draw(&quality);
        }
        if losses > 0 {
            self.counters.held_loss.increment();
        }
        if fate.held_back {
            self.counters.reordered.increment();
            late += REORDER_HOLD;
        }
        if fate.damage == Some(Damage::Checked) {
            let place = (fate.damaged_bit >> 3) as usize % bytes.len();
            bytes[place] ^= 1 << (fate.damaged_bit & 7);
            self.counters.corrupted_checked.increment();
        }
        // Order is kept by the queue behind; what is held back holds back what follows.
        let fate = Fate { held_back: false, ..fate };
        let at = link.schedule.departure(now, &quality, &fate, bytes.len()) + late;
        if at > now {
            self.counters.delayed.increment();
        }
        Chunk { at, bytes }
    }

    async fn write(
        mut self,
        mut queued: mpsc::Receiver<Chunk>,
        mut writer: OwnedWriteHalf,
    ) -> anyhow::Result<()> {
        while let Some(chunk) = queued.recv().await {
            if chunk.at > Instant::now() {
                sleep_until(chunk.at.into()).await;
            }
            self.pass().await;
            let written = writer.write_all(&chunk.bytes).await;
            if written.is_err() {
                self.counters.dropped_undeliverable.increment();
            }
            written?;
            self.counters.forwarded_packets.increment();
            self.counters.forwarded_bytes.add(chunk.bytes.len() as u64);
        }
        self.pass().await;
        Ok(writer.shutdown().await?)
    }

    /// Returns once the link lets something through.
    async fn pass(&mut self) {
        if !self.view.quality(self.index).passes() {
            self.counters.held_cut.increment();
            self.view.until(self.index, Quality::passes).await;
        }
    }
}

/// Whether a network would have to carry the data again.
fn broken(fate: &Fate) -> bool {
    fate.lost || fate.damage == Some(Damage::Wire)
}
