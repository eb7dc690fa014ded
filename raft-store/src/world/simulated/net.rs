//! Connections between simulated processes: byte streams that come late, stall and break.
//!
//! What runs over them is the product's own gRPC. Like TCP, a stream neither loses nor reorders
//! bytes: a lost packet is a delay, a cut link is silence until it is mended or somebody gives up, a
//! dead process is a reset, and a host without power is silence too.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Weak;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use bytes::Buf;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio::time::Sleep;
use tonic::server::NamedService;
pub use tonic::transport::Channel;
pub use tonic::transport::Endpoint;
use tonic::transport::Uri;
use tonic::transport::server::Connected;
use tower::Service;
use xxhash_rust::xxh3::xxh3_64;

use super::Process;
use super::draw;
use super::trace;

/// Bytes on their way in one direction of a connection; then the sender waits.
const WINDOW_BYTES: usize = 1 << 20;
/// How often a connection that is being made looks whether its link was mended.
const SYN_INTERVAL: Duration = Duration::from_millis(100);

static NETWORK: Mutex<Network> = Mutex::new(Network {
    links: BTreeMap::new(),
    listeners: BTreeMap::new(),
    pipes: Vec::new(),
    off: BTreeSet::new(),
});

struct Network {
    /// By sending and receiving node.
    links: BTreeMap<(u64, u64), Link>,
    /// By `host:port`.
    listeners: BTreeMap<String, (Process, mpsc::UnboundedSender<Stream>)>,
    pipes: Vec<Weak<Pipe>>,
    /// Hosts without power.
    off: BTreeSet<u64>,
}

#[derive(Default)]
struct Link {
    cut: bool,
    quality: Quality,
    /// Readers that wait until it is mended.
    waiting: Vec<Waker>,
}

/// How good a link is, in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quality {
    /// Time on the way in microseconds: shortest, longest.
    pub delay_us: (u64, u64),
    /// Packets in a thousand that get lost and are sent again.
    pub lost_permille: u64,
}

impl Quality {
    fn delay(self) -> Duration {
        let mut delay = draw().micros(self.delay_us.0, self.delay_us.1);
        while draw().permille(self.lost_permille) {
            delay = delay * 2 + Duration::from_millis(200);
        }
        delay
    }
}

/// Makes the link from one node to another this good.
pub fn set_quality(from: u64, to: u64, quality: Quality) {
    NETWORK.lock().links.entry((from, to)).or_default().quality = quality;
}

/// Cuts the link from one node to another, or mends it.
pub fn set_cut(from: u64, to: u64, cut: bool) {
    let waiting = {
        let mut network = NETWORK.lock();
        let link = network.links.entry((from, to)).or_default();
        link.cut = cut;
        if cut { Vec::new() } else { std::mem::take(&mut link.waiting) }
    };
    waiting.into_iter().for_each(Waker::wake);
}

/// Takes the power of a host away before its process dies, or gives it back: without power nobody
/// is told that the process is gone.
pub fn set_power(node_id: u64, on: bool) {
    let mut network = NETWORK.lock();
    if on {
        network.off.remove(&node_id);
    } else {
        network.off.insert(node_id);
    }
}

pub(super) fn process_died(process: &Process) {
    let pipes: Vec<Arc<Pipe>> = {
        let mut network = NETWORK.lock();
        network.listeners.retain(|_, (owner, _)| !same(owner, process));
        if network.off.contains(&process.node_id()) {
            return;
        }
        network.pipes.retain(|pipe| pipe.strong_count() > 0);
        network.pipes.iter().filter_map(Weak::upgrade).collect()
    };
    for pipe in pipes {
        if same(&pipe.from, process) || same(&pipe.to, process) {
            pipe.close(End::Reset);
        }
    }
}

fn same(one: &Process, other: &Process) -> bool {
    (one.node_id(), one.incarnation()) == (other.node_id(), other.incarnation())
}

/// One direction of a connection.
struct Pipe {
    from: Process,
    to: Process,
    flow: Mutex<Flow>,
}

struct Flow {
    /// When each piece arrives, and the piece.
    pieces: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    last_arrival: Instant,
    end: Option<(Instant, End)>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy)]
enum End {
    Eof,
    Reset,
}

impl Pipe {
    fn new(from: &Process, to: &Process) -> Arc<Self> {
        let flow = Flow {
            pieces: VecDeque::new(),
            bytes: 0,
            last_arrival: Instant::now(),
            end: None,
            reader: None,
            writer: None,
        };
        let pipe = Arc::new(Self { from: from.clone(), to: to.clone(), flow: Mutex::new(flow) });
        NETWORK.lock().pipes.push(Arc::downgrade(&pipe));
        pipe
    }

    fn quality(&self) -> Quality {
        let network = NETWORK.lock();
        let link = network.links.get(&(self.from.node_id(), self.to.node_id()));
        link.map(|link| link.quality).unwrap_or_default()
    }

    /// Whether the link is cut; if so, the reader is woken when it is mended.
    fn is_cut(&self, context: &Context<'_>) -> bool {
        let mut network = NETWORK.lock();
        let link = network.links.entry((self.from.node_id(), self.to.node_id())).or_default();
        if link.cut {
            link.waiting.push(context.waker().clone());
        }
        link.cut
    }

    fn close(&self, end: End) {
        let delay = self.quality().delay();
        let wakers = {
            let mut flow = self.flow.lock();
            if flow.end.is_none() {
                let at = flow.last_arrival.max(Instant::now() + delay);
                flow.end = Some((at, end));
            }
            [flow.reader.take(), flow.writer.take()]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// A connection, as one of its ends sees it.
pub struct Stream {
    reads: Arc<Pipe>,
    writes: Arc<Pipe>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    /// Connects the process that calls to `host:port`.
    pub(crate) async fn connect(address: impl AsRef<str>) -> io::Result<Self> {
        connect(Process::current(), address.as_ref()).await
    }

    fn pair(one: &Process, other: &Process) -> (Self, Self) {
        let (there, back) = (Pipe::new(one, other), Pipe::new(other, one));
        (
            Self { reads: back.clone(), writes: there.clone(), timer: None },
            Self { reads: there, writes: back, timer: None },
        )
    }
}

async fn connect(from: Process, address: &str) -> io::Result<Stream> {
    let to = node_of(address)?;
    loop {
        let (cut, quality, off) = {
            let network = NETWORK.lock();
            let link = |ends: (u64, u64)| network.links.get(&ends);
            let cut = |ends: (u64, u64)| link(ends).is_some_and(|link| link.cut);
            (
                cut((from.node_id(), to)) || cut((to, from.node_id())),
                link((from.node_id(), to)).map(|link| link.quality).unwrap_or_default(),
                network.off.contains(&to),
            )
        };
        if cut || off {
            tokio::time::sleep(SYN_INTERVAL).await;
            continue;
        }
        tokio::time::sleep(quality.delay() * 2).await;
        let network = NETWORK.lock();
        let Some((process, accepts)) = network.listeners.get(address) else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let (process, accepts) = (process.clone(), accepts.clone());
        drop(network);
        let (near, far) = Stream::pair(&from, &process);
        accepts.send(far).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        return Ok(near);
    }
}

/// Hosts are called `node-<id>`.
fn node_of(address: &str) -> io::Result<u64> {
    let host = address.split(':').next().unwrap_or(address);
    let number = host.strip_prefix("node-").and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("{address} is no simulated host")))
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let reads = self.reads.clone();
        if !reads.to.may_run(context) || reads.is_cut(context) {
            return Poll::Pending;
        }
        loop {
            let at = {
                let mut flow = reads.flow.lock();
                let now = Instant::now();
                if let Some((at, piece)) = flow.pieces.front_mut() {
                    if *at <= now {
                        let count = piece.len().min(buffer.remaining());
                        buffer.put_slice(&piece[..count]);
                        piece.advance(count);
                        let empty = piece.is_empty();
                        flow.bytes -= count;
                        if empty {
                            flow.pieces.pop_front();
                        }
                        if let Some(writer) = flow.writer.take() {
                            writer.wake();
                        }
                        return Poll::Ready(Ok(()));
                    }
                    Some(*at)
                } else {
                    let end = flow.end;
                    match end {
                        Some((at, end)) if at <= now => {
                            return Poll::Ready(match end {
                                End::Eof => Ok(()),
                                End::Reset => Err(io::ErrorKind::ConnectionReset.into()),
                            });
                        }
                        Some((at, _)) => Some(at),
                        None => {
                            flow.reader = Some(context.waker().clone());
                            None
                        }
                    }
                }
            };
            let Some(at) = at else { return Poll::Pending };
            let timer = self.timer.insert(Box::pin(tokio::time::sleep_until(at)));
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let pipe = &self.writes;
        if !pipe.from.may_run(context) {
            return Poll::Pending;
        }
        let delay = pipe.quality().delay();
        let mut flow = pipe.flow.lock();
        let now = Instant::now();
        if flow.end.is_some_and(|(at, _)| at <= now) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if flow.bytes >= WINDOW_BYTES {
            flow.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        trace::note(format_args!(
            "{:?} to {:?}: {} bytes {:x}",
            pipe.from,
            pipe.to,
            bytes.len(),
            xxh3_64(bytes)
        ));
        flow.last_arrival = flow.last_arrival.max(now + delay);
        let piece = (flow.last_arrival, Bytes::copy_from_slice(bytes));
        flow.pieces.push_back(piece);
        flow.bytes += bytes.len();
        let reader = flow.reader.take();
        drop(flow);
        if let Some(reader) = reader {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writes.close(End::Eof);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A dead process has broken its connections already, or nobody is to know.
        if !self.writes.from.is_dead() {
            self.writes.close(End::Eof);
            self.reads.close(End::Reset);
        }
    }
}

impl Connected for Stream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// Where connections arrive.
pub struct Listener(mpsc::UnboundedReceiver<Stream>);

impl Listener {
    /// Listens at `host:port` for the process that calls.
    ///
    /// # Errors
    /// None; the real world has some.
    pub fn bind(address: &str) -> io::Result<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let listener = (Process::current(), sender);
        NETWORK.lock().listeners.insert(address.to_owned(), listener);
        Ok(Self(receiver))
    }
}

/// The connections that arrive at `listener`.
///
/// # Errors
/// None; the real world has some.
pub fn incoming(
    listener: Listener,
) -> io::Result<impl futures::Stream<Item = io::Result<Stream>> + Send> {
    let streams = tokio_stream::wrappers::UnboundedReceiverStream::new(listener.0);
    Ok(futures::StreamExt::map(streams, Ok))
}

/// A channel of the process that calls, which connects when it is first used.
pub fn connect_lazy(endpoint: &Endpoint) -> Channel {
    endpoint.connect_with_connector_lazy(Connector(Process::current()))
}

/// The same: what is simulated is not damaged on the way.
pub fn connect_lazy_by<F>(endpoint: &Endpoint, _: fn(String) -> F) -> Channel {
    connect_lazy(endpoint)
}

struct Connector(Process);

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let from = self.0.clone();
        Box::pin(async move {
            let address = uri.authority().map_or_else(String::new, ToString::to_string);
            connect(from, &address).await.map(TokioIo::new)
        })
    }
}

/// Answers calls as a part of the process that calls this.
pub fn of_this_node<S>(service: S) -> OfNode<S> {
    OfNode { process: Process::current(), service }
}

/// A service whose calls belong to a process.
#[derive(Clone)]
pub struct OfNode<S> {
    process: Process,
    service: S,
}

impl<S: NamedService> NamedService for OfNode<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, R, B> Service<R> for OfNode<S>
where
    S: Service<R, Response = http::Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<OfNode<Pin<Box<B>>>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let process = self.process.clone();
        let answer = self.process.run(self.service.call(request));
        // The body of a streamed answer does its work as it is sent.
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| OfNode { process, service: Box::pin(body) }))
        })
    }
}

impl<B: http_body::Body> http_body::Body for OfNode<Pin<Box<B>>> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<B::Data>, B::Error>>> {
        let process = self.process.clone();
        if !process.may_run(context) {
            return Poll::Pending;
        }
        process.now(|| self.service.as_mut().poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.service.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.service.size_hint()
    }
}
