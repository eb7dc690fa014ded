//! A connection that has shown that it speaks HTTP/2.
//!
//! Invariant: a reader sees every byte the client sent, the preface included, although the
//! handshake has read it before.

use std::io;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tonic::transport::server::TcpConnectInfo;

use crate::checked::Checked;
use crate::metrics::OpenGuard;

/// What every HTTP/2 client sends first (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One client, over plaintext or TLS. Closing it makes room for another one.
pub struct Connection {
    transport: Transport,
    /// How much of [`PREFACE`] the reader has been given.
    preface_given: usize,
    peer: SocketAddr,
    local: SocketAddr,
    _permit: OwnedSemaphorePermit,
    _open: OpenGuard,
}

/// What carries the bytes.
pub(crate) enum Transport {
    Plain(TcpStream),
    /// Of another node, which relays.
    Checked(Box<Checked<TcpStream>>),
    /// Boxed: rustls keeps more than a kilobyte of state inline.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Wraps a transport from which exactly the preface was read.
    pub(crate) fn new(
        transport: Transport,
        peer: SocketAddr,
        local: SocketAddr,
        permit: OwnedSemaphorePermit,
        open: OpenGuard,
    ) -> Self {
        Self { transport, preface_given: 0, peer, local, _permit: permit, _open: open }
    }

    /// The client's address.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the client chose TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }
}

impl Connected for Connection {
    /// tonic's own type, so that `Request::remote_addr` answers.
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: Some(self.local), remote_addr: Some(self.peer) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &PREFACE[self.preface_given..];
        if !rest.is_empty() {
            let len = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..len]);
            self.preface_given += len;
            return Poll::Ready(Ok(()));
        }
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Checked(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Checked(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Checked(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Checked(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Checked(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Checked(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
