//! Message ids as 5.x clients make them (version 1).
//!
//! | bytes | content |
//! |---|---|
//! | 1 | version, 1 |
//! | 6 | hardware address of the host, or something as good: here drawn at random by each process |
//! | 2 | process id, low half |
//! | 4 | seconds since 2021-01-01T00:00:00Z |
//! | 4 | counter of this process |
//!
//! Big endian; written as 34 upper-case hexadecimal digits.
//!
//! Source: rocketmq-clients `java/client/.../message/MessageIdCodec.java`.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

const VERSION: u8 = 1;
const LEN: usize = 17;
/// 2021-01-01T00:00:00Z after 1970-01-01T00:00:00Z.
const EPOCH: Duration = Duration::from_secs(1_609_459_200);

/// The identity of one message, kept when it is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId([u8; LEN]);

/// The text is not a message id of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message id is 34 hexadecimal digits that begin with 01")]
pub struct ParseMessageIdError;

impl MessageId {
    /// An id that no other call, process or host has returned, up to chance in 46 random bits.
    pub fn generate() -> Self {
        static PROCESS: OnceLock<[u8; 8]> = OnceLock::new();
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let process = PROCESS.get_or_init(|| {
            let [mut host @ .., _, _]: [u8; 8] = rand::random();
            // "Locally administered, unicast": never the address of a real network card.
            host[0] = host[0] & !1 | 2;
            let pid = (std::process::id() as u16).to_be_bytes();
            let mut process = [0; 8];
            process[..6].copy_from_slice(&host);
            process[6..].copy_from_slice(&pid);
            process
        });
        let seconds = SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since_1970| since_1970.saturating_sub(EPOCH).as_secs() as u32);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut id = [VERSION; LEN];
        id[1..9].copy_from_slice(process);
        id[9..13].copy_from_slice(&seconds.to_be_bytes());
        id[13..].copy_from_slice(&count.to_be_bytes());
        Self(id)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        for byte in self.0 {
            for digit in [byte >> 4, byte & 15] {
                fmt::Write::write_char(f, char::from(DIGITS[usize::from(digit)]))?;
            }
        }
        Ok(())
    }
}

impl FromStr for MessageId {
    type Err = ParseMessageIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 2 * LEN || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(ParseMessageIdError);
        }
        let mut id = [0; LEN];
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| ParseMessageIdError)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| ParseMessageIdError)?;
        }
        if id[0] == VERSION { Ok(Self(id)) } else { Err(ParseMessageIdError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_layout_of_version_1() {
        let text = MessageId::generate().to_string();
        assert_eq!(text.len(), 34);
        assert!(text.starts_with("01"));
        assert_eq!(text, text.to_uppercase());
        let pid = format!("{:04X}", std::process::id() as u16);
        assert_eq!(text[14..18], pid);
        let seconds = u64::from(u32::from_str_radix(&text[18..26], 16).unwrap());
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!((seconds + EPOCH.as_secs()).abs_diff(now) <= 5);
    }

    #[test]
    fn ids_differ_and_survive_text() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| MessageId::generate()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn other_text_is_refused() {
        let version_2 = format!("02{}", "0".repeat(32));
        for text in ["", "01", "zz", &"0".repeat(33), &"é".repeat(17), &version_2] {
            assert_eq!(text.parse::<MessageId>(), Err(ParseMessageIdError), "{text}");
        }
    }
}
