//! Messages as a broker of Apache RocketMQ stores and hands them out: one behind the other, each with
//! its length.

use anyhow::{Context, ensure};

use crate::driver_log::Stored;

/// Marks a message; the second kind writes the length of its topic in two bytes instead of one.
const MAGIC: u32 = 0xDAA3_20A7;
const MAGIC_LONG_TOPIC: u32 = 0xDAA3_20AB;

/// Flags of a message.
const COMPRESSED: u32 = 1;
const BORN_AT_IPV6: u32 = 1 << 4;
const STORED_AT_IPV6: u32 = 1 << 5;

/// Between the parts of properties.
const VALUE: char = '\u{1}';
const NEXT: char = '\u{2}';
/// The property that has the id of the client.
const CLIENT_ID: &str = "UNIQ_KEY";

/// Every message of an answer.
pub fn decode(mut bytes: &[u8]) -> anyhow::Result<Vec<Stored>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let length = Reader(bytes).u32()? as usize;
        let (one, rest) = bytes.split_at_checked(length).context("a message cut short")?;
        all.push(message(Reader(one))?);
        bytes = rest;
    }
    Ok(all)
}

fn message(mut reader: Reader<'_>) -> anyhow::Result<Stored> {
    let _length = reader.u32()?;
    let magic = reader.u32()?;
    ensure!([MAGIC, MAGIC_LONG_TOPIC].contains(&magic), "{magic:x} begins no message");
    let _body_crc = reader.u32()?;
    let queue_id = reader.u32()?;
    let _user_flag = reader.u32()?;
    let offset = reader.u64()?;
    let _place_in_log = reader.u64()?;
    let flags = reader.u32()?;
    ensure!(flags & COMPRESSED == 0, "a compressed body, which nobody sent");
    let host = |is_ipv6: bool| if is_ipv6 { 20 } else { 8 };
    let _born_ms = reader.u64()?;
    reader.take(host(flags & BORN_AT_IPV6 != 0))?;
    let _stored_ms = reader.u64()?;
    reader.take(host(flags & STORED_AT_IPV6 != 0))?;
    let _consumed_again = reader.u32()?;
    let _prepared_at = reader.u64()?;
    let length = reader.u32()? as usize;
    let value = String::from_utf8(reader.take(length)?.to_vec())?;
    let topic = if magic == MAGIC { reader.u8()?.into() } else { reader.u16()? };
    reader.take(topic.into())?;
    let length = reader.u16()?.into();
    let properties = std::str::from_utf8(reader.take(length)?)?;
    let mut pairs = properties.split(NEXT).filter_map(|pair| pair.split_once(VALUE));
    let id = pairs.find(|(name, _)| *name == CLIENT_ID).map_or("", |(_, id)| id).to_owned();
    Ok(Stored { queue_id, offset, id, value })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> anyhow::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).context("a message cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn u8(&mut self) -> anyhow::Result<u8> {
        self.chunk().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> anyhow::Result<u16> {
        self.chunk().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> anyhow::Result<u32> {
        self.chunk().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> anyhow::Result<u64> {
        self.chunk().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message, as the layout has it.
    fn encode(magic: u32, flags: u32, offset: u64, value: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |part: &[u8]| bytes.extend_from_slice(part);
        put(&magic.to_be_bytes());
        put(&[0; 4]);
        put(&7_u32.to_be_bytes());
        put(&[0; 4]);
        put(&offset.to_be_bytes());
        put(&[0; 8]);
        put(&flags.to_be_bytes());
        put(&[0; 8]);
        put(if flags & BORN_AT_IPV6 == 0 { &[1; 8] } else { &[1; 20] });
        put(&[0; 8]);
        put(if flags & STORED_AT_IPV6 == 0 { &[1; 8] } else { &[1; 20] });
        put(&[0; 12]);
        put(&(value.len() as u32).to_be_bytes());
        put(value.as_bytes());
        put(if magic == MAGIC { &[1] } else { &[0, 1] });
        put(b"t");
        let properties = "TAGS\u{1}x\u{2}UNIQ_KEY\u{1}id-7\u{2}";
        put(&(properties.len() as u16).to_be_bytes());
        put(properties.as_bytes());
        let mut framed = ((bytes.len() + 4) as u32).to_be_bytes().to_vec();
        framed.extend(bytes);
        framed
    }

    #[test]
    fn messages_of_all_kinds_are_read() {
        let mut bytes = encode(MAGIC, 0, 3, "a");
        bytes.extend(encode(MAGIC_LONG_TOPIC, BORN_AT_IPV6 | STORED_AT_IPV6, 4, "bc"));
        let read = decode(&bytes).unwrap();
        let seen: Vec<_> =
            read.iter().map(|it| (it.queue_id, it.offset, &*it.id, &*it.value)).collect();
        assert_eq!(seen, [(7, 3, "id-7", "a"), (7, 4, "id-7", "bc")]);
        assert!(decode(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let bytes = encode(MAGIC, 0, 3, "a");
        for length in 1..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
        assert!(decode(&encode(1, 0, 3, "a")).is_err());
        assert!(decode(&encode(MAGIC, COMPRESSED, 3, "a")).is_err());
        assert!(decode(&[0; 4]).is_err());
    }
}
