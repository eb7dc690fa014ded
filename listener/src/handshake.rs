//! Finds out what a fresh TCP connection speaks, and brings it to the HTTP/2 preface.
//!
//! Not here: limits in number and time (`accept` sets them around this).

use std::io;
use std::sync::Arc;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::checked::Checked;
use crate::checked::GREETING;
use crate::connection::PREFACE;
use crate::connection::Transport;

/// Content type of the TLS record that opens a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Why a connection came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// Closed before it said anything: a port probe, not worth a line in the log.
    #[error("closed without a word")]
    Silent,
    #[error("not HTTP/2: this port serves gRPC")]
    NotHttp2,
    #[error("the client wants TLS, which is off on this port")]
    TlsOff,
    #[error("TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    #[error("{0}")]
    Io(#[source] io::Error),
}

/// Reads exactly up to the end of the preface, through TLS when the client chose it.
///
/// # Cancel safety
/// Not cancel safe: bytes may have been read. Dropping the future closes the connection.
pub(crate) async fn handshake(
    tcp: TcpStream,
    tls: Option<Arc<ServerConfig>>,
) -> Result<Transport, HandshakeError> {
    let mut first = [0];
    if tcp.peek(&mut first).await.map_err(HandshakeError::Io)? == 0 {
        return Err(HandshakeError::Silent);
    }
    if first == GREETING[..1] {
        let mut stream = greeted(tcp).await?;
        expect_preface(&mut stream).await?;
        return Ok(Transport::Checked(Box::new(stream)));
    }
    if first != [TLS_HANDSHAKE] {
        let mut tcp = tcp;
        expect_preface(&mut tcp).await?;
        return Ok(Transport::Plain(tcp));
    }
    let acceptor = TlsAcceptor::from(tls.ok_or(HandshakeError::TlsOff)?);
    let mut stream = acceptor.accept(tcp).await.map_err(HandshakeError::Tls)?;
    expect_preface(&mut stream).await?;
    Ok(Transport::Tls(Box::new(stream)))
}

/// Another node, which relays.
async fn greeted(mut tcp: TcpStream) -> Result<Checked<TcpStream>, HandshakeError> {
    let mut greeting = [0; GREETING.len()];
    tcp.read_exact(&mut greeting).await.map_err(HandshakeError::Io)?;
    match greeting == *GREETING {
        true => Ok(Checked::new(tcp)),
        false => Err(HandshakeError::NotHttp2),
    }
}

async fn expect_preface(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), HandshakeError> {
    let mut received = [0; PREFACE.len()];
    let mut len = 0;
    while len < received.len() {
        let read = stream.read(&mut received[len..]).await.map_err(HandshakeError::Io)?;
        // Judged as it arrives: a wrong protocol is told at its first bytes, not after a time-out.
        if read == 0 || received[len..len + read] != PREFACE[len..len + read] {
            return Err(HandshakeError::NotHttp2);
        }
        len += read;
    }
    Ok(())
}
