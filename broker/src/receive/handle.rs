//! The text form of a receipt: opaque to clients, which echo it.
//!
//! Six hexadecimal numbers joined by `-`: group id, topic id, queue id, offset, nonce, and a hash of
//! the text before it, so that a mangled handle is told from an old one.

use raftmq_proto::raftmq::Receipt;

/// The receipt handle for `receipt`.
pub fn encode(receipt: &Receipt) -> String {
    let text = format!(
        "{:x}-{:x}-{:x}-{:x}-{:x}",
        receipt.group_id, receipt.topic_id, receipt.queue_id, receipt.offset, receipt.nonce
    );
    let check = checksum(&text);
    format!("{text}-{check:x}")
}

/// The receipt in `handle`, or `None` when it was not made by [`encode`].
pub fn decode(handle: &str) -> Option<Receipt> {
    let (text, check) = handle.rsplit_once('-')?;
    if u32::from_str_radix(check, 16).ok()? != checksum(text) {
        return None;
    }
    let numbers: Vec<u64> =
        text.split('-').map(|part| u64::from_str_radix(part, 16).ok()).collect::<Option<_>>()?;
    let [group_id, topic_id, queue_id, offset, nonce] = numbers[..] else { return None };
    Some(Receipt {
        group_id: group_id.try_into().ok()?,
        topic_id: topic_id.try_into().ok()?,
        queue_id: queue_id.try_into().ok()?,
        offset,
        nonce,
    })
}

fn checksum(text: &str) -> u32 {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusal() {
        let receipt =
            Receipt { group_id: 1, topic_id: 2, queue_id: 3, offset: u64::MAX, nonce: 4096 };
        let handle = encode(&receipt);
        assert_eq!(decode(&handle), Some(receipt));
        assert_eq!(decode(&handle[1..]), None);
        assert_eq!(decode(""), None);
        assert_eq!(decode("1 2 3 broker"), None);
    }
}
