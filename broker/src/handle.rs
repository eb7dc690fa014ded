//! Handles: the text forms of receipts and timers, opaque to clients, which echo them.
//!
//! Hexadecimal numbers joined by `-`, and a hash of the text before it, so that a mangled handle is
//! told from an old one. A receipt has five numbers, a recall handle four behind an `r`.

use raftmq_proto::raftmq::Receipt;
use raftmq_proto::raftmq::Timer;

/// The receipt handle for `receipt`.
pub fn encode(receipt: &Receipt) -> String {
    seal(format!(
        "{:x}-{:x}-{:x}-{:x}-{:x}",
        receipt.group_id, receipt.topic_id, receipt.queue_id, receipt.offset, receipt.nonce
    ))
}

/// The receipt in `handle`, or `None` when it was not made by [`encode`].
pub fn decode(handle: &str) -> Option<Receipt> {
    let numbers = numbers(unseal(handle)?)?;
    let [group_id, topic_id, queue_id, offset, nonce] = numbers[..] else { return None };
    Some(Receipt {
        group_id: group_id.try_into().ok()?,
        topic_id: topic_id.try_into().ok()?,
        queue_id: queue_id.try_into().ok()?,
        offset,
        nonce,
    })
}

/// The recall handle for a delayed message of a topic.
pub fn encode_recall(topic_id: u32, timer: &Timer) -> String {
    let (due_ms, log_index, offset) = (timer.due_ms, timer.log_index, timer.offset);
    seal(format!("r{topic_id:x}-{due_ms:x}-{log_index:x}-{offset:x}"))
}

/// Topic id and timer in `handle`, or `None` when it was not made by [`encode_recall`].
pub fn decode_recall(handle: &str) -> Option<(u32, Timer)> {
    let numbers = numbers(unseal(handle)?.strip_prefix('r')?)?;
    let [topic_id, due_ms, log_index, offset] = numbers[..] else { return None };
    let timer = Timer { due_ms, log_index, offset: offset.try_into().ok()? };
    Some((topic_id.try_into().ok()?, timer))
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    text.split('-').map(|part| u64::from_str_radix(part, 16).ok()).collect()
}

fn seal(text: String) -> String {
    let check = checksum(&text);
    format!("{text}-{check:x}")
}

fn unseal(handle: &str) -> Option<&str> {
    let (text, check) = handle.rsplit_once('-')?;
    (u32::from_str_radix(check, 16).ok()? == checksum(text)).then_some(text)
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

    #[test]
    fn a_recall_handle_is_no_receipt() {
        let timer = Timer { due_ms: 1 << 41, log_index: 9, offset: 77 };
        let handle = encode_recall(3, &timer);
        assert_eq!(decode_recall(&handle), Some((3, timer)));
        assert_eq!(decode(&handle), None);
        let receipt = Receipt { group_id: 1, topic_id: 2, queue_id: 3, offset: 4, nonce: 5 };
        assert_eq!(decode_recall(&encode(&receipt)), None);
    }
}
