//! A connection between nodes whose bytes are checked.
//!
//! TCP lets some damage pass: its checksum has sixteen bits, and what happens in a network card or in
//! memory before it is computed is not covered at all. Clients' messages that one node relays to
//! another would be stored as they arrive. So the relaying node greets with [`GREETING`] and both sides
//! then send records, each with its length and CRC-32C:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the payload, 1 to 65,536, little endian |
//! | 4 | CRC-32C of these four bytes and the payload, little endian |
//! | length | payload |
//!
//! Invariant: a reader gets nothing of a record that is not whole and intact; damage ends the
//! connection.
//!
//! Not here: secrecy and proof of who speaks, which TLS gives to clients.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Buf;
use bytes::BufMut;
use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

/// What the connecting side says first. Begins neither like HTTP/2 nor like TLS.
pub(crate) const GREETING: &[u8; 8] = b"RMQ-CRC\n";

const HEADER_BYTES: usize = 8;
const PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// Read at a time.
const READ_BYTES: usize = 16 << 10;

/// Connects to a port of a [`crate::Listener`] at `host:port`.
///
/// # Errors
/// What the system says.
pub async fn connect(address: String) -> io::Result<Checked<TcpStream>> {
    let mut tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    tcp.write_all(GREETING).await?;
    Ok(Checked::new(tcp))
}

/// Records over another stream.
pub struct Checked<T> {
    inner: T,
    /// As it arrived: at most one record and a read.
    arrived: BytesMut,
    /// Of an intact record, what the reader has not been given.
    intact: BytesMut,
    /// One record, as far as it is not sent.
    leaving: BytesMut,
}

impl<T> Checked<T> {
    pub(crate) fn new(inner: T) -> Self {
        let empty = BytesMut::new;
        Self { inner, arrived: empty(), intact: empty(), leaving: empty() }
    }

    /// Takes a record out of what arrived. `None`: it is not all there.
    fn take_record(&mut self) -> io::Result<Option<BytesMut>> {
        let Some((mut header, rest)) = self.arrived.split_at_checked(HEADER_BYTES) else {
            return Ok(None);
        };
        let (length, said) = (header.get_u32_le(), header.get_u32_le());
        let bytes = length as usize;
        if !(1..=PAYLOAD_BYTES_MAX).contains(&bytes) {
            return Err(damaged(format!("a record of {length} bytes")));
        }
        let Some(payload) = rest.get(..bytes) else { return Ok(None) };
        let is = checksum(length, payload);
        if is != said {
            return Err(damaged(format!("checksum {is:08x} instead of {said:08x}")));
        }
        self.arrived.advance(HEADER_BYTES);
        Ok(Some(self.arrived.split_to(bytes)))
    }
}

fn checksum(length: u32, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length.to_le_bytes()), payload)
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("damaged on the way between nodes: {what}"))
}

impl<T: AsyncRead + Unpin> AsyncRead for Checked<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.intact.is_empty() {
                let count = self.intact.len().min(buffer.remaining());
                buffer.put_slice(&self.intact.split_to(count));
                return Poll::Ready(Ok(()));
            }
            if let Some(payload) = self.take_record()? {
                self.intact = payload;
                continue;
            }
            let mut bytes = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.inner).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(match self.arrived.is_empty() {
                    true => Ok(()),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                });
            }
            self.arrived.extend_from_slice(read.filled());
        }
    }
}

impl<T: AsyncWrite + Unpin> Checked<T> {
    /// Sends the record that is on its way.
    fn poll_leave(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.leaving.is_empty() {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(context, &self.leaving))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.leaving.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Checked<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_leave(context))?;
        let payload = &buffer[..buffer.len().min(PAYLOAD_BYTES_MAX)];
        if !payload.is_empty() {
            let length = payload.len() as u32;
            self.leaving.put_u32_le(length);
            self.leaving.put_u32_le(checksum(length, payload));
            self.leaving.extend_from_slice(payload);
            // What does not leave now does so before the next record, or with a flush.
            if let Poll::Ready(Err(error)) = self.poll_leave(context) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(payload.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_leave(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_leave(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::duplex;

    use super::*;

    /// What is sent as `bytes`, in writes of `each`.
    async fn sent(bytes: &[u8], each: usize) -> Vec<u8> {
        let (near, mut far) = duplex(1 << 20);
        let mut stream = Checked::new(near);
        for part in bytes.chunks(each) {
            stream.write_all(part).await.unwrap();
        }
        stream.shutdown().await.unwrap();
        let mut records = Vec::new();
        far.read_to_end(&mut records).await.unwrap();
        records
    }

    async fn received(records: &[u8]) -> io::Result<Vec<u8>> {
        // A pipe of seven bytes: records come in pieces.
        let (near, far) = duplex(7);
        let records = records.to_vec();
        let sender = tokio::spawn(async move {
            let mut near = near;
            // The reader may have given up.
            let _sent = near.write_all(&records).await;
        });
        let mut bytes = Vec::new();
        let read = Checked::new(far).read_to_end(&mut bytes).await;
        sender.await.unwrap();
        read.map(|_| bytes)
    }

    #[tokio::test]
    async fn bytes_arrive_as_they_were_written() {
        let bytes: Vec<u8> = (0..200_000u32).map(|number| number as u8).collect();
        for each in [1_000, 65_536, 200_000] {
            assert_eq!(received(&sent(&bytes, each).await).await.unwrap(), bytes);
        }
    }

    #[tokio::test]
    async fn no_flipped_bit_gets_through() {
        let records = sent(b"thirty-two bytes, in two records", 16).await;
        for bit in 0..records.len() * 8 {
            let mut damaged = records.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(received(&damaged).await.is_err(), "bit {bit}");
        }
    }

    #[tokio::test]
    async fn a_record_that_ends_early_is_an_error() {
        let records = sent(b"whole", 5).await;
        assert!(received(&records[..records.len() - 1]).await.is_err());
        assert_eq!(received(&[]).await.unwrap(), b"");
    }
}
